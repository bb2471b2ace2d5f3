"""`/api/jobs`: submitting, listing and changing jobs. It asks the dispatcher through its port, and decides nothing."""

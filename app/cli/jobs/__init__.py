"""`flask jobs`: submitting, listing and changing jobs. It asks the dispatcher, and knows nothing of workers."""

// Extracts a tar.gz into the present folder with npm's own reader; see tests/eventvault/archive/test_other_readers.py.
import { extract } from "tar";

await extract({ file: process.argv[2], strict: true });

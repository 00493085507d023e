//! Everything on disk in one folder, in one process.

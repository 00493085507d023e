//! One module per promise made to users.

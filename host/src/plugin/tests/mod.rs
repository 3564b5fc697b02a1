//! Plugins as they are used: built guests in a folder, events through them.

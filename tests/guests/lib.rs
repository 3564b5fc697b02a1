//! Components for the engine's tests. Each file beside this one is one; README.md says what each does.

//! Where streams go.

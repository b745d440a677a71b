//! Frame bytes to [`Segment`](crate::segment::Segment).

//! One supervisor an endpoint.

//! End-to-end tests, and the tests of the harness itself.

mod harness;

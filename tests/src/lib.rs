//! What the integration tests share: the parity corpus, devices, tolerances and the weights formula.
//!
//! One corpus (`fixtures/parity/`, made with transformers by `fixtures/make.py`) is run on every
//! device; `tests/parity.rs` names each test after the device, so that a failure says where.

pub mod calls;
pub mod captioner;
pub mod compare;
pub mod corpus;
pub mod formula;
pub mod icons;
pub mod layouts;
pub mod place;
pub mod training;

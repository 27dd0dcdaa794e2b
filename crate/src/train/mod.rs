//! Training: a readable loop a stage, and what the stages share.

pub mod batch;
pub mod caption;
pub mod checkpoint;
pub mod data;
pub mod evaluate;
pub mod loss;
pub mod scenes;
pub mod schedule;
pub mod vocabulary;

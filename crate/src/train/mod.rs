//! Training: a readable loop a stage, and what the stages share.

pub mod batch;
pub mod capfilt;
pub mod checkpoint;
pub mod contrast;
pub mod data;
pub mod draw;
pub mod engine;
pub mod evaluate;
pub mod fresh;
pub mod inherit;
pub mod loss;
pub mod metrics;
pub mod momentum;
pub mod negatives;
pub mod noise;
pub mod objectives;
pub mod queue;
pub mod random;
pub mod reword;
pub mod scenes;
pub mod schedule;
pub mod vocabulary;

//! Launches that are recorded once and then repeated without being prepared again.
//!
//! A replay re-encodes what was resolved while recording: pipelines, bindings and parameters. It can
//! only stand for launches that are the same every time, read and write the same buffers, and take
//! what changes from the device.

use burn_cubecl::tensor::CubeTensor;
use cubecl::client::{Client, Graph};

/// A recording on the way.
pub struct Recorder {
    client: Client,
    /// Whether the runtime still waits for it to end.
    open: bool,
}

/// Launches that can be repeated.
#[derive(Debug)]
pub struct Recording(Graph);

impl Recorder {
    /// Prepares to record on the device of `tensor`. The launches must then run twice as they are, so
    /// that the pools have the memory of a third run; nothing is allocated while recording.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn prepare(tensor: &CubeTensor) -> Result<Self, String> {
        let client = tensor.client.clone();
        client.graph_prepare().map_err(|e| format!("{e:?}"))?;
        Ok(Self { client, open: true })
    }

    /// Records the launches of `body` instead of running them.
    ///
    /// # Errors
    /// When something in `body` cannot be repeated; then nothing of it has run.
    pub fn record(mut self, body: impl FnOnce()) -> Result<Recording, String> {
        self.client.start_capture().map_err(|e| format!("{e:?}"))?;
        body();
        self.open = false;
        self.client.stop_capture().map(Recording).map_err(|e| format!("{e:?}"))
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.open {
            // Given up: the stream goes back to what it was, and there is nothing to keep.
            let _ = self.client.stop_capture();
        }
    }
}

impl Recording {
    /// Enqueues the launches once more.
    ///
    /// # Errors
    /// What the runtime says.
    #[allow(unsafe_code, reason = "the runtime cannot know that outside buffers outlive a recording")]
    pub fn replay(&self) -> Result<(), String> {
        // SAFETY: buffers that were made while recording are held by the recording; those from outside
        // belong to tensors that the caller keeps as long as it replays, used on this thread's stream only.
        unsafe { self.0.replay() }.map_err(|e| format!("{e:?}"))
    }
}

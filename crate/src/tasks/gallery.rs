//! Galleries of a session's embeddings.

use super::part::Task;
use super::session::Session;
use crate::Result;
use crate::gallery::Gallery;

impl Session {
    /// An empty gallery for what [`image_feature`](Self::image_feature) returns.
    ///
    /// Its fingerprint tells the weights of image encoder and projection, as they are stored: a gallery
    /// goes with every device and with every model that has the two, and with no other.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`](crate::ErrorKind::TaskUnsupported) without a network for ITC.
    pub fn gallery(&self) -> Result<Gallery> {
        let part = self.part(Task::Itc)?;
        let [vision, projections] = part.fingerprints;
        Gallery::new(part.config.image_text_hidden_size, &vision.and(projections).to_string())
    }
}

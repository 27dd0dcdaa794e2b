//! What people write for a model that is somewhere else.

use crate::{Error, ErrorKind, Result};

/// Where a model is, if it is not on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `owner/name` or `owner/name@revision` on the hub.
    Repository {
        /// `owner/name`.
        repo: String,
        /// A branch, tag or commit.
        revision: String,
    },
    /// The address of a `blip.json`.
    Manifest(String),
    /// The address of a checkpoint without anything beside it, as the original repository has them.
    File(String),
}

impl Location {
    /// Reads an address or the name of a repository. Paths of this machine are for the caller to tell
    /// apart first.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for what is neither.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with("https://") || text.starts_with("http://") {
            if is_checkpoint(text.split(['?', '#']).next().unwrap_or_default()) {
                return Ok(Self::File(text.to_owned()));
            }
            let is_manifest = text.ends_with(".json");
            let address = text.trim_end_matches('/');
            return Ok(Self::Manifest(if is_manifest {
                text.to_owned()
            } else {
                format!("{address}/blip.json")
            }));
        }
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let is_repo = repo.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name));
        let is_revision = !revision.is_empty() && revision.split('/').all(is_name);
        // `folder/model.pth` is a file that is not there.
        if is_repo && is_revision && !is_checkpoint(repo) {
            return Ok(Self::Repository { repo: repo.to_owned(), revision: revision.to_owned() });
        }
        let message = format!(
            "`{text}` is no model: expected a folder, an address, or a repository as `owner/name` or `owner/name@revision`"
        );
        Err(Error::new(ErrorKind::BadOption, message))
    }
}

/// Whether it is named like a checkpoint.
fn is_checkpoint(path: &str) -> bool {
    [".pth", ".pt", ".bin", ".safetensors"].iter().any(|ending| path.ends_with(ending))
}

/// Whether the hub would have it, and every file system takes it.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=96).contains(&text.len())
        && text.chars().all(plain)
        && !text.starts_with(['.', '-'])
        && !text.ends_with('.')
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_addresses_are_told_apart() {
        let repository = |repo: &str, revision: &str| Location::Repository {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
        };
        assert_eq!(Location::parse("a/b").unwrap(), repository("a/b", "main"));
        assert_eq!(Location::parse("a/b@refs/pr/1").unwrap(), repository("a/b", "refs/pr/1"));
        for address in ["https://x.org/m", "https://x.org/m/", "https://x.org/m/blip.json"] {
            let expected = Location::Manifest("https://x.org/m/blip.json".to_owned());
            assert_eq!(Location::parse(address).unwrap(), expected);
        }
        for wrong in [
            "",
            "a",
            "a/b/c",
            "../b",
            "a/..",
            "a/b@",
            "a/b@../c",
            "a b/c",
            "/a",
            "a/",
            "a/b@x//y",
            "-a/b",
            "out/model.pth",
        ] {
            assert_eq!(Location::parse(wrong).unwrap_err().kind(), ErrorKind::BadOption, "{wrong}");
        }
    }
}

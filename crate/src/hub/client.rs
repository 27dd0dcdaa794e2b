//! Requests that outlive a bad connection.

use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body, BodyReader};

use crate::{Error, ErrorKind, Result};

/// The longest text that is read whole: manifests, lists of files, vocabularies.
const LONGEST_TEXT: u64 = 32 << 20;

/// Attempts where nobody ever answered.
const UNANSWERED: u32 = 3;

/// How long a client goes on trying.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Failures in a row, without a byte between them, before a download fails.
    pub attempts: u32,
    /// The pause after the first; it doubles with each further one.
    pub pause: Duration,
    /// The longest pause, whatever the server asks for.
    pub longest_pause: Duration,
    /// How long nothing may arrive before a connection counts as cut.
    pub silence: Duration,
    /// After how many bytes of a download what was done is put on the disk, to be gone on with by
    /// another process.
    pub save_every: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            silence: Duration::from_secs(60),
            save_every: 32 << 20,
        }
    }
}

/// What asks servers.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    patience: Patience,
    /// Where repositories are, without a slash at the end.
    endpoint: String,
    /// Shown to the endpoint, and to nobody else.
    token: Option<String>,
}

impl Client {
    /// For repositories at this endpoint, such as `https://huggingface.co`.
    pub fn new(endpoint: &str, token: Option<String>, patience: Patience) -> Self {
        let config = Agent::config_builder()
            // A status is looked at here, to say what was asked for.
            .http_status_as_error(false)
            .timeout_connect(Some(patience.silence))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence))
            .user_agent(concat!("blip-web/", env!("CARGO_PKG_VERSION")))
            // Ranges are those of the file, not of something compressed.
            .accept_encoding("identity")
            .build();
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { agent: config.new_agent(), patience, endpoint, token }
    }

    /// For the hub that the environment names: `HF_ENDPOINT`, huggingface.co when it is not set, and the
    /// token `HF_TOKEN`.
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let token = set("HF_TOKEN").map(|token| token.trim().to_owned());
        Self::new(endpoint.trim(), token, Patience::default())
    }

    /// How long it goes on trying.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Where repositories are.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A text file, whole. `wanted` says in words what it is.
    ///
    /// # Errors
    /// [`ErrorKind::DownloadFailed`].
    pub fn text(&self, url: &str, wanted: &str) -> Result<Vec<u8>> {
        let mut download = Download::new(self, url, wanted, 0..LONGEST_TEXT, false);
        let mut bytes = Vec::new();
        download.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A range of a file, whole.
    ///
    /// # Errors
    /// [`ErrorKind::DownloadFailed`].
    pub fn range(&self, url: &str, wanted: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let mut download = Download::new(self, url, wanted, range, true);
        let mut bytes = Vec::new();
        download.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes of a file, and what the server calls its content.
    ///
    /// # Errors
    /// [`ErrorKind::DownloadFailed`], also when the server does not say how long it is.
    pub fn look_at(&self, url: &str, wanted: &str) -> Result<(u64, Option<String>)> {
        let mut download = Download::new(self, url, wanted, 0..1, true);
        let mut first = [0];
        download.read(&mut first)?;
        match download.total {
            Some(total) => Ok((total, download.tag)),
            None => Err(download.error("the server does not say how long it is")),
        }
    }

    /// A range of a file, as it comes.
    pub fn download<'a>(&'a self, url: &str, wanted: &str, range: Range<u64>) -> Download<'a> {
        Download::new(self, url, wanted, range, true)
    }

    /// Asks once; with a range only as long as the file still has the tag.
    fn request(
        &self,
        url: &str,
        range: Option<String>,
        unless: Option<&str>,
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token
            && url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'))
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        if let Some(tag) = unless {
            request = request.header("If-Range", tag);
        }
        request.call()
    }
}

/// The bytes of a file, in order, whatever the connection does meanwhile.
#[derive(Debug)]
pub struct Download<'a> {
    client: &'a Client,
    url: String,
    wanted: String,
    /// The bytes that are still to come; of a file of unknown length, up to the longest allowed.
    left: Range<u64>,
    /// Whether exactly so many must come.
    is_exact: bool,
    /// What the file was called when it was first answered for.
    tag: Option<String>,
    /// Bytes of the whole file, where the server says.
    total: Option<u64>,
    connection: Option<Connection>,
    /// Whether anybody ever answered.
    is_answered: bool,
    failures: u32,
}

/// An answer that is being read.
struct Connection {
    body: BodyReader<'static>,
    /// Bytes of it that come before those that are wanted.
    skip: u64,
    /// Bytes it has, where it says.
    length: Option<u64>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("skip", &self.skip)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Why an attempt failed.
enum Failure {
    /// The next one may succeed, after a pause that the server may ask for.
    Passing(String, Option<Duration>),
    Final(Error),
}

impl<'a> Download<'a> {
    fn new(client: &'a Client, url: &str, wanted: &str, left: Range<u64>, is_exact: bool) -> Self {
        let (url, wanted) = (url.to_owned(), wanted.to_owned());
        Self {
            client,
            url,
            wanted,
            left,
            is_exact,
            tag: None,
            total: None,
            connection: None,
            is_answered: false,
            failures: 0,
        }
    }

    /// Reads some of the next bytes; none at the end.
    ///
    /// # Errors
    /// [`ErrorKind::DownloadFailed`] when the server refuses, or nothing came through for too long.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if self.left.is_empty() && self.is_exact {
                return Ok(0);
            }
            match self.attempt(buffer) {
                Ok(None) => {}
                Ok(Some(count)) => {
                    if count > 0 {
                        self.failures = 0;
                    }
                    return Ok(count);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason, pause)) => self.wait(&reason, pause)?,
            }
        }
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Reads once: how many bytes that are wanted, or nothing when they were others.
    fn attempt(&mut self, buffer: &mut [u8]) -> std::result::Result<Option<usize>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let room = self.left.end - self.left.start;
        let length = if connection.skip > 0 { connection.skip } else { room };
        let length = usize::try_from(length).map_or(buffer.len(), |length| length.min(buffer.len()));
        let count = match connection.body.read(&mut buffer[..length]) {
            Ok(count) => count as u64,
            Err(error) => return Err(Failure::Passing(format!("the connection was cut: {error}"), None)),
        };
        if let Some(length) = &mut connection.length {
            *length = length.saturating_sub(count);
        }
        if count == 0 {
            if !self.is_exact && connection.length.is_none_or(|length| length == 0) {
                return Ok(Some(0));
            }
            return Err(Failure::Passing("the connection was cut".to_owned(), None));
        }
        let is_wanted = connection.skip == 0;
        connection.skip = connection.skip.saturating_sub(count);
        self.connection = Some(connection);
        if !is_wanted {
            return Ok(None);
        }
        self.left.start += count;
        if self.left.is_empty() && !self.is_exact {
            return Err(Failure::Final(self.error(format!("it has more than {LONGEST_TEXT} bytes"))));
        }
        Ok(Some(count as usize))
    }

    fn connect(&mut self) -> std::result::Result<Connection, Failure> {
        let Range { start, end } = self.left;
        let range = match (self.is_exact, start) {
            (true, start) => Some(format!("bytes={start}-{}", end - 1)),
            // A text goes on where it was cut, and begins without asking for a part.
            (false, 0) => None,
            (false, start) => Some(format!("bytes={start}-")),
        };
        let answer = self.client.request(&self.url, range, self.tag.as_deref());
        let answer = answer.map_err(|error| self.sort(error))?;
        self.is_answered = true;
        let status = answer.status().as_u16();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let tag = header("etag").map(str::to_owned);
        let length = header("content-length").and_then(|text| text.parse::<u64>().ok());
        self.total = match status {
            206 => header("content-range").and_then(|text| text.rsplit_once('/')?.1.trim().parse().ok()),
            200 => length,
            _ => None,
        };
        let skip = match status {
            206 => {
                let place = header("content-range").and_then(range_start);
                if place != Some(start) {
                    return Err(Failure::Final(
                        self.error("the server sent another part than was asked for"),
                    ));
                }
                0
            }
            // All of it: the server knows no parts, or no longer has what the first part was of.
            200 => start,
            _ => {
                let pause = header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
                return Err(self.refused(status, pause));
            }
        };
        // A weak tag does not promise equal bytes.
        let tag = tag.filter(|tag| tag.starts_with('"'));
        match (&self.tag, &tag) {
            (Some(before), Some(now)) if before != now => {
                return Err(Failure::Final(self.error("it changed while it was downloaded: try again")));
            }
            (None, Some(_)) => self.tag = tag,
            _ => {}
        }
        Ok(Connection { body: answer.into_body().into_reader(), skip, length })
    }

    /// What to make of a status that is not success.
    fn refused(&self, status: u16, pause: Option<Duration>) -> Failure {
        match status {
            408 | 425 | 429 | 500..=599 => Failure::Passing(format!("status {status}"), pause),
            404 | 410 => Failure::Final(self.error("there is no such file (status 404)")),
            401 | 403 => {
                let whose =
                    if self.client.token.is_some() { "the token does not give" } else { "nobody is given" };
                Failure::Final(self.error(format!(
                    "{whose} access, or it does not exist (status {status}); private and gated repositories need HF_TOKEN"
                )))
            }
            416 => Failure::Final(self.error("it is shorter than it was said to be (status 416)")),
            _ => Failure::Final(self.error(format!("status {status}"))),
        }
    }

    fn sort(&self, error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::Protocol(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound => Failure::Passing(error.to_string(), None),
            error => Failure::Final(self.error("it cannot be asked for").with_source(error)),
        }
    }

    /// Pauses before the next attempt, or gives up.
    fn wait(&mut self, reason: &str, asked: Option<Duration>) -> Result<()> {
        let Patience { attempts, pause, longest_pause, .. } = self.client.patience;
        self.failures += 1;
        // Where nobody ever answered, there is probably no network, or no such server.
        let attempts = if self.is_answered { attempts } else { attempts.min(UNANSWERED) };
        if self.failures >= attempts {
            return Err(self.error(format!("{reason}, {} times in a row", self.failures)));
        }
        let own = pause.saturating_mul(1 << (self.failures - 1).min(16));
        std::thread::sleep(asked.unwrap_or(own).max(own).min(longest_pause));
        Ok(())
    }

    fn error(&self, why: impl std::fmt::Display) -> Error {
        let message = format!("cannot download {} ({}): {why}", self.wanted, self.url);
        Error::new(ErrorKind::DownloadFailed, message)
    }
}

/// Of `bytes 5-9/10`, 5.
fn range_start(header: &str) -> Option<u64> {
    header.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

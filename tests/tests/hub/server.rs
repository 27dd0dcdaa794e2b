//! A hub on this machine: repositories, redirects to another host, ranges, and every way to fail.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

/// What a server does instead of answering a request for a file's bytes.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Sends so many bytes of the body, and hangs up.
    Cut(usize),
    /// Answers with a status, and when to come again in seconds.
    Status(u16, Option<u64>),
    /// Begins to send the whole file whatever was asked for, and hangs up after so many bytes.
    Whole(usize),
    /// Sends so many bytes of the body, and then nothing for as long as the other side waits.
    Silence(usize),
    /// Sends the body with another byte at this place of it.
    Wrong(usize),
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// The first byte that was asked for.
    pub fn start(&self) -> u64 {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.split_once('-')?.0.parse().ok()).unwrap_or(0)
    }
}

/// A file, and what its content is called. Files may be large: nothing copies them.
#[derive(Clone, Debug)]
struct Stored {
    bytes: Arc<Vec<u8>>,
    digest: String,
}

impl From<Vec<u8>> for Stored {
    fn from(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes: Arc::new(bytes) }
    }
}

/// Repositories at one commit each, and plain files.
#[derive(Debug, Default)]
struct Content {
    /// Repository, commit, files.
    repositories: BTreeMap<String, (String, BTreeMap<String, Stored>)>,
    /// Digests that are told instead of the right ones, by file.
    digests: BTreeMap<String, String>,
    plain: BTreeMap<String, Stored>,
    /// For the next requests for bytes of files of at least 10 kB.
    faults: VecDeque<Fault>,
    requests: Vec<Request>,
    is_down: bool,
}

/// A server that runs until the test ends.
#[derive(Clone, Debug)]
pub struct Server {
    content: Arc<Mutex<Content>>,
    port: u16,
}

/// A commit.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { content: Arc::default(), port };
        let running = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, stream) = (running.clone(), stream.unwrap());
                // A client that hangs up is what many tests are about.
                std::thread::spawn(move || server.answer(stream).unwrap_or_default());
            }
        });
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn add(&self, repo: &str, files: &[(&str, &[u8])]) {
        self.add_owned(repo, files.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect());
    }

    pub fn add_owned(&self, repo: &str, files: Vec<(&str, Vec<u8>)>) {
        let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.into())).collect();
        let mut content = self.content.lock().unwrap();
        content.repositories.insert(repo.to_owned(), (COMMIT.to_owned(), files));
    }

    /// A file that is no part of a repository.
    pub fn add_plain(&self, path: &str, bytes: &[u8]) {
        let file = bytes.to_vec().into();
        self.content.lock().unwrap().plain.insert(path.to_owned(), file);
    }

    pub fn pretend_digest(&self, file: &str, digest: &str) {
        self.content.lock().unwrap().digests.insert(file.to_owned(), digest.to_owned());
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.content.lock().unwrap().faults.extend(faults);
    }

    /// Faults that nobody ran into.
    pub fn faults_left(&self) -> usize {
        self.content.lock().unwrap().faults.len()
    }

    pub fn set_down(&self, is_down: bool) {
        self.content.lock().unwrap().is_down = is_down;
    }

    /// What was asked for since the last time.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.content.lock().unwrap().requests)
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
        let request = Request { path, headers };
        {
            let mut content = self.content.lock().unwrap();
            if content.is_down {
                return Ok(());
            }
            content.requests.push(request.clone());
        }
        self.route(stream, &request)
    }

    fn route(&self, mut stream: TcpStream, request: &Request) -> std::io::Result<()> {
        let path = request.path.split('?').next().unwrap_or_default();
        if let Some(rest) = path.strip_prefix("/api/models/") {
            let (repo, _) = rest.split_once("/revision/").unwrap_or((rest, ""));
            return match self.listing(repo) {
                Some(text) => respond(&mut stream, "200 OK", "", text.as_bytes()),
                None => respond(&mut stream, "401 Unauthorized", "", b"{}"),
            };
        }
        if path.contains("/resolve/") && !path.starts_with("/cdn/") {
            // The bytes are on another host, as far as names tell.
            let place = format!("Location: http://localhost:{}/cdn{path}\r\n", self.port);
            return respond(&mut stream, "302 Found", &place, b"");
        }
        let file = match path.strip_prefix("/cdn/") {
            Some(rest) => self.file(rest),
            None => self.content.lock().unwrap().plain.get(path).cloned(),
        };
        match file {
            Some(file) => self.send(stream, request, &file),
            None => respond(&mut stream, "404 Not Found", "", b"no such file"),
        }
    }

    fn listing(&self, repo: &str) -> Option<String> {
        let content = self.content.lock().unwrap();
        let (commit, files) = content.repositories.get(repo)?;
        let sibling = |(name, file): (&String, &Stored)| {
            // Large files have a digest, small ones none.
            let digest = content.digests.get(name).unwrap_or(&file.digest);
            let size = file.bytes.len();
            let lfs = (size > 10_000).then(|| json!({"sha256": digest, "size": size, "pointerSize": 134}));
            json!({"rfilename": name, "size": size, "blobId": "x", "lfs": lfs})
        };
        let siblings: Vec<_> = files.iter().map(sibling).collect();
        let listing = json!({"id": repo, "sha": commit, "siblings": siblings, "tags": ["blip", "license:bsd-3-clause"]});
        Some(listing.to_string())
    }

    /// `owner/name/resolve/commit/file`.
    fn file(&self, path: &str) -> Option<Stored> {
        let (repo, rest) = path.split_once("/resolve/")?;
        let (_, name) = rest.split_once('/')?;
        self.content.lock().unwrap().repositories.get(repo)?.1.get(name).cloned()
    }

    fn send(&self, mut stream: TcpStream, request: &Request, file: &Stored) -> std::io::Result<()> {
        let bytes = &file.bytes[..];
        let fault = match bytes.len() {
            0..10_000 => None,
            _ => self.content.lock().unwrap().faults.pop_front(),
        };
        if let Some(Fault::Status(status, after)) = fault {
            let after = after.map_or(String::new(), |seconds| format!("Retry-After: {seconds}\r\n"));
            return respond(&mut stream, &format!("{status} No"), &after, b"later");
        }
        let tag = format!("\"{}\"", file.digest);
        let matches = request.headers.get("if-range").is_none_or(|wanted| *wanted == tag);
        let range =
            request.headers.get("range").filter(|_| matches && !matches!(fault, Some(Fault::Whole(_))));
        let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let (status, place, body) = match range {
            Some((start, end)) => {
                let start: usize = start.parse().unwrap_or(0);
                let end = end.parse().map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
                if start >= end {
                    return respond(&mut stream, "416 Range Not Satisfiable", "", b"");
                }
                let place = format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, bytes.len());
                ("206 Partial Content", place, &bytes[start..end])
            }
            None => ("200 OK", String::new(), bytes),
        };
        let headers = format!("ETag: {tag}\r\nAccept-Ranges: bytes\r\n{place}");
        let body_length = body.len();
        let (sent, is_silent) = match fault {
            Some(Fault::Cut(length) | Fault::Whole(length)) => (length.min(body_length), false),
            Some(Fault::Silence(length)) => (length.min(body_length), true),
            _ => (body_length, false),
        };
        head(&mut stream, status, &headers, body_length)?;
        let mut rest = &body[..sent];
        if let Some(Fault::Wrong(place)) = fault
            && place < sent
        {
            stream.write_all(&rest[..place])?;
            stream.write_all(&[!rest[place]])?;
            rest = &rest[place + 1..];
        }
        stream.write_all(rest)?;
        stream.flush()?;
        if is_silent {
            std::thread::sleep(std::time::Duration::from_secs(30));
        }
        Ok(())
    }
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    head(stream, status, headers, body.len())?;
    stream.write_all(body)
}

fn head(stream: &mut TcpStream, status: &str, headers: &str, length: usize) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())
}

/// SHA-256 in lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

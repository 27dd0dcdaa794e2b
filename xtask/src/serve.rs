//! A static file server for one folder, on this machine only.
//!
//! One thread and one answer a connection: a browser opens several at once and keeps idle ones, and
//! none of them may wait for another.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The longest request head that is read.
const HEAD_LIMIT: u64 = 64 * 1024;
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server; it ends with the process.
pub struct Site {
    /// The address of its root, with a final slash.
    pub url: String,
    listener: JoinHandle<()>,
}

impl Site {
    /// Waits for ever.
    pub fn wait(self) {
        self.listener.join().ok();
    }
}

/// Serves `root` on localhost; port 0 takes a free one.
pub fn start(root: &Path, port: u16) -> Result<Site> {
    let listener = TcpListener::bind(("127.0.0.1", port))
        .with_context(|| format!("cannot serve on port {port}; another one can be given with --port"))?;
    let port = listener.local_addr()?.port();
    let root: Arc<Path> = root.canonicalize()?.into();
    let listener = thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let root = Arc::clone(&root);
            // A visitor who goes away in the middle of an answer is none of our business.
            thread::spawn(move || answer(connection, &root).ok());
        }
    });
    Ok(Site { url: format!("http://localhost:{port}/"), listener })
}

/// Reads one request and answers it.
fn answer(connection: TcpStream, root: &Path) -> io::Result<()> {
    connection.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut lines = BufReader::new(connection.try_clone()?.take(HEAD_LIMIT)).lines();
    let Some(request) = lines.next().transpose()? else { return Ok(()) };
    // The headers change nothing here, but an answer before their end would reset the connection.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, url) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method != "GET" && method != "HEAD" {
        return refuse(connection, "405 Method Not Allowed");
    }
    match resolve(root, url).map(|path| (File::open(&path), path)) {
        Some((Ok(file), path)) => send(connection, file, mime(&path), method == "GET"),
        _ => refuse(connection, "404 Not Found"),
    }
}

fn send(mut connection: TcpStream, mut file: File, mime: &str, with_body: bool) -> io::Result<()> {
    let length = file.metadata()?.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: {mime}\r\nContent-Length: {length}\r\nCache-Control: no-cache\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )?;
    if with_body {
        io::copy(&mut file, &mut connection)?;
    }
    Ok(())
}

fn refuse(mut connection: TcpStream, status: &str) -> io::Result<()> {
    let length = status.len();
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{status}"
    )
}

/// The file behind an address, if it is a file inside `root` (which is canonical).
fn resolve(root: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?;
    let decoded = percent_decode(path)?;
    let mut file = root.to_path_buf();
    for part in decoded.split('/').filter(|part| !part.is_empty()) {
        if part == "." || part == ".." || part.contains(['\\', '\0', ':']) {
            return None;
        }
        file.push(part);
    }
    if file.is_dir() {
        file.push("index.html");
    }
    // Follows links, so that one cannot lead out of the folder.
    file.canonicalize().ok().filter(|file| file.starts_with(root) && file.is_file())
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn mime(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "wasm" => "application/wasm",
        "txt" | "md" | "ts" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "ico" => "image/x-icon",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with a page and a file beside it that must never be served.
    fn folder(name: &str) -> PathBuf {
        let outer = std::env::temp_dir().join(format!("xtask-serve-{name}-{}", std::process::id()));
        fs::create_dir_all(outer.join("site/sub dir")).expect("temporary folder");
        fs::write(outer.join("secret.txt"), "secret").expect("temporary file");
        fs::write(outer.join("site/index.html"), "page").expect("temporary file");
        fs::write(outer.join("site/sub dir/a.png"), "image").expect("temporary file");
        outer.join("site").canonicalize().expect("it was just made")
    }

    #[test]
    fn files_and_index_pages_are_found() {
        let root = folder("found");
        assert_eq!(resolve(&root, "/"), Some(root.join("index.html")));
        assert_eq!(resolve(&root, "/index.html?device=cpu#top"), Some(root.join("index.html")));
        assert_eq!(resolve(&root, "/sub%20dir/a.png"), Some(root.join("sub dir/a.png")));
        assert_eq!(resolve(&root, "/none"), None);
        assert_eq!(resolve(&root, "/sub%20dir/"), None);
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        let root = folder("outside");
        for url in [
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "/sub%20dir/../../secret.txt",
            "//../secret.txt",
        ] {
            assert_eq!(resolve(&root, url), None, "{url}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_does_not_lead_outside() {
        let root = folder("link");
        let link = root.join("link.txt");
        if !link.exists() {
            std::os::unix::fs::symlink("../secret.txt", &link).expect("temporary link");
        }
        assert_eq!(resolve(&root, "/link.txt"), None);
    }

    fn request(site: &Site, request: &str) -> String {
        let address = site.url.trim_start_matches("http://localhost:").trim_end_matches('/');
        let port = address.parse().expect("the address has a port");
        let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        connection.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("the server answers and closes");
        answer
    }

    #[test]
    fn an_idle_connection_holds_nobody_up() {
        let site = start(&folder("idle"), 0).expect("a free port");
        let port: u16 =
            site.url.trim_start_matches("http://localhost:").trim_end_matches('/').parse().expect("a port");
        let idle: Vec<_> =
            (0..8).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("the server listens")).collect();
        let page = request(&site, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("\r\n\r\npage"), "{page}");
        drop(idle);
    }

    #[test]
    fn what_is_not_served_says_so() {
        let site = start(&folder("refused"), 0).expect("a free port");
        assert!(request(&site, "GET /none HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(request(&site, "POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        assert!(request(&site, "HEAD / HTTP/1.1\r\n\r\n").ends_with("close\r\n\r\n"));
    }

    #[test]
    fn a_broken_escape_is_not_an_address() {
        for text in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }
}

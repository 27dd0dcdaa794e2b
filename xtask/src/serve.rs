//! A static file server for one folder, on this machine only.

use anyhow::{Result, anyhow};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tiny_http::{Header, Method, Request, Response, Server};

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
    let server = Server::http(("127.0.0.1", port))
        .map_err(|error| anyhow!("cannot serve on port {port}: {error}; try --port"))?;
    let address = server.server_addr().to_ip().ok_or_else(|| anyhow!("the server has no IP address"))?;
    let root: Arc<Path> = root.canonicalize()?.into();
    // A thread a request: a page that stops reading an answer holds up nobody but itself.
    let listener = thread::spawn(move || {
        for request in server.incoming_requests() {
            let root = Arc::clone(&root);
            thread::spawn(move || {
                // A visitor who goes away in the middle of an answer is none of our business.
                respond(request, &root).ok();
            });
        }
    });
    Ok(Site { url: format!("http://localhost:{}/", address.port()), listener })
}

fn respond(request: Request, root: &Path) -> std::io::Result<()> {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return request.respond(Response::from_string("only GET and HEAD\n").with_status_code(405));
    }
    let Some(path) = resolve(root, request.url()) else {
        return request.respond(Response::from_string("not found\n").with_status_code(404));
    };
    let headers =
        [("Content-Type", mime(&path)), ("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff")];
    let mut response = Response::from_file(File::open(&path)?);
    for (name, value) in headers {
        response.add_header(Header::from_bytes(name, value).expect("both are plain ASCII"));
    }
    request.respond(response)
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

    #[test]
    fn a_broken_escape_is_not_an_address() {
        for text in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }
}

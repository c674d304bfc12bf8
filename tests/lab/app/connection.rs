//! One connection of the test server: requests, answers, and how it ends.

use std::{future::pending, io, sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::sleep,
};

use super::{Shared, Stage, crash, invalid, upstream};

/// Go's `net/http` Server.Shutdown counts a connection that has sent nothing as busy for 5 s
/// (server.go, closeIdleConns); then it is closed.
const NEW_CONNECTION_GRACE: Duration = Duration::from_secs(5);

/// Longest request head that is read; more is answered by a close.
const HEAD_LIMIT: usize = 16 * 1024;

/// What a request asks for.
struct Asked {
    path: Path,
    close: bool,
    /// Only the head of the answer.
    head: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    Ready,
    Healthz,
    Other,
}

/// Serves one connection until the peer, the server or an idle time ends it.
pub(super) async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stage = shared.stage.clone();
    let half_closed = tokio::select! {
        done = requests(&mut stream, shared) => { done?; false }
        () = reached(&mut stage, Stage::HalfClosed) => true,
    };
    if half_closed {
        stream.shutdown().await?;
        // The peer has its end of file; what it still sends is read and dropped.
        while stream.read(&mut [0; 1024]).await? > 0 {}
    }
    Ok(())
}

/// Waits for a stage. The sender lives as long as the server: an error here means that the process is about to end.
async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    let _ = stage.wait_for(|now| *now >= wanted).await;
}

async fn requests(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stage = shared.stage.clone();
    let mut head = Vec::with_capacity(1024);
    let mut served = 0u64;
    let read_delay = Duration::from_millis(shared.args.read_delay_ms);
    loop {
        let whole = tokio::select! {
            biased;
            whole = read_head(stream, &mut head, read_delay) => whole?,
            () = idle_too_long(&mut stage, served, shared.args.keep_alive_ms) => false,
        };
        if !whole {
            return Ok(());
        }
        let asked = asked(&head);
        head.clear();
        let (status, body) = answer(stream, shared, asked.path).await?;
        let close = asked.close || *stage.borrow() >= Stage::Closing;
        write_answer(stream, shared, (status, &body), close, &asked).await?;
        served += 1;
        if close {
            return stream.shutdown().await;
        }
    }
}

fn asked(head: &[u8]) -> Asked {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let path = match text.split(' ').nth(1) {
        Some("/ready") => Path::Ready,
        Some("/healthz") => Path::Healthz,
        _ => Path::Other,
    };
    let old = text.lines().next().is_some_and(|line| line.ends_with("http/1.0"));
    Asked {
        path,
        close: old || text.contains("\r\nconnection: close"),
        head: text.starts_with("head "),
    }
}

/// Status and body, when they are due.
async fn answer(stream: &TcpStream, shared: &Shared, path: Path) -> io::Result<(u16, Vec<u8>)> {
    let args = &shared.args;
    let stopping = || *shared.stage.borrow() > Stage::Serving;
    if path == Path::Other {
        let number = 1 + shared.requests.fetch_add(1, Ordering::Relaxed);
        crash::on_request(args, number);
        if args
            .invalid_segment_every
            .is_some_and(|every| number.is_multiple_of(every))
        {
            invalid::send(stream)?;
        }
    }
    if shared.past(args.hang_after_ms) {
        return pending().await;
    }
    let short = |status| (status, b"ok\n".to_vec());
    Ok(match path {
        Path::Ready if !shared.past(Some(args.ready_after_ms)) => short(503),
        Path::Ready if args.unready_on_sigterm && stopping() => short(503),
        Path::Healthz if shared.past(args.unhealthy_after_ms) => short(500),
        Path::Ready | Path::Healthz => short(200),
        Path::Other => {
            sleep(Duration::from_millis(args.response_delay_ms)).await;
            if args.errors_while_draining && stopping() {
                return Ok(short(503));
            }
            match args.forward_to_port {
                Some(port) => upstream::ask(port).await,
                None if args.body_bytes == 3 => short(200),
                None => (200, vec![b'x'; args.body_bytes]),
            }
        }
    })
}

async fn write_answer(
    stream: &mut TcpStream,
    shared: &Shared,
    (status, body): (u16, &[u8]),
    close: bool,
    asked: &Asked,
) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        _ => "Service Unavailable",
    };
    let length = if shared.args.chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", body.len())
    };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\n{length}\r\nX-Served-By: {}\r\nConnection: {}\r\n\r\n",
        shared.name,
        if close { "close" } else { "keep-alive" }
    );
    if asked.head {
        return stream.write_all(head.as_bytes()).await;
    }
    let between = Duration::from_millis(if asked.path == Path::Other {
        shared.args.body_delay_ms
    } else {
        0
    });
    let parts = parts(body, &shared.args);
    if between.is_zero() {
        // One segment, where it fits.
        return stream
            .write_all(&[head.into_bytes(), parts.concat()].concat())
            .await;
    }
    stream.write_all(head.as_bytes()).await?;
    for part in parts {
        sleep(between).await;
        stream.write_all(&part).await?;
    }
    Ok(())
}

/// The body as it is written, the last chunk included.
fn parts(body: &[u8], args: &super::Args) -> Vec<Vec<u8>> {
    let each = body.len().div_ceil(args.body_parts.max(1)).max(1);
    let mut parts: Vec<Vec<u8>> = body.chunks(each).map(<[u8]>::to_vec).collect();
    if args.chunked {
        for part in &mut parts {
            *part = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        }
        parts.push(b"0\r\n\r\n".to_vec());
    }
    parts
}

/// Reads one request head. False: the peer closed, or the head is too long.
async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>, read_delay: Duration) -> io::Result<bool> {
    loop {
        if head.ends_with(b"\r\n\r\n") {
            return Ok(true);
        }
        if !read_delay.is_zero() {
            stream.readable().await?;
            sleep(read_delay).await;
        }
        if head.len() > HEAD_LIMIT || stream.read_buf(head).await? == 0 {
            return Ok(false);
        }
    }
}

/// Ends when this idle connection is to be closed: with the server, or after its keep-alive time.
async fn idle_too_long(stage: &mut watch::Receiver<Stage>, served: u64, keep_alive_ms: Option<u64>) {
    let closing = async {
        reached(stage, Stage::Closing).await;
        if served == 0 {
            sleep(NEW_CONNECTION_GRACE).await;
        }
    };
    let timed_out = async {
        match keep_alive_ms.filter(|_| served > 0) {
            Some(ms) => sleep(Duration::from_millis(ms)).await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = closing => {}
        () = timed_out => {}
    }
}

//! Passes a request on to another server of the same pod, as a sidecar proxy does.

use std::{io, net::Ipv4Addr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Status and body of the answer; 502 when there was none (as nginx and Envoy answer).
pub(super) async fn ask(port: u16) -> (u16, Vec<u8>) {
    exchange(port)
        .await
        .unwrap_or_else(|_| (502, b"no answer from the app\n".to_vec()))
}

async fn exchange(port: u16) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let early = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let at = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .ok_or_else(early)?;
    let status = std::str::from_utf8(answer.get(9..12).unwrap_or_default())
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(early)?;
    Ok((status, answer.split_off(at + 4)))
}

//! Readiness, liveness and startup probes: connections from the node's namespace, each period.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{recorder::Recorder, worker::Event};
use crate::net::in_netns;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

/// What a probe task needs.
pub(super) struct Target {
    /// Index of the container in its pod.
    pub container: usize,
    /// The container's run that the task belongs to.
    pub id: String,
    pub node_netns: String,
    pub pod_ip: IpAddr,
    pub events: mpsc::Sender<Event>,
    pub recorder: Recorder,
}

fn seconds(value: Option<i32>, default: i32) -> Duration {
    Duration::from_secs(u64::try_from(value.unwrap_or(default)).unwrap_or(0))
}

/// Probes until aborted; tells each change of the result, and the first one. Defaults are the API's
/// (pkg/apis/core/v1/defaults.go, SetDefaults_Probe).
pub(super) async fn repeat(target: Target, container: Container, probe: Probe, kind: Kind) {
    sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let mut ticks = interval(seconds(probe.period_seconds, 10).max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_millis(100));
    let (mut told, mut run) = (None, 0);
    let mut last = None;
    loop {
        ticks.tick().await;
        let result = timeout(limit, once(&target, &container, &probe)).await;
        let ok = matches!(result, Ok(Ok(())));
        // prober.go, runProbeWithRetries: each failure is an event, below the threshold too.
        match &result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => target
                .recorder
                .unhealthy(&container.name, kind, &error.to_string()),
            Err(_) => {
                let error = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
                target.recorder.unhealthy(&container.name, kind, error);
            }
        }
        run = if last == Some(ok) { run + 1 } else { 1 };
        last = Some(ok);
        let threshold = if ok {
            probe.success_threshold.unwrap_or(1)
        } else {
            probe.failure_threshold.unwrap_or(3)
        };
        if run < threshold || told == Some(ok) {
            continue;
        }
        told = Some(ok);
        let event = Event::Probed {
            container: target.container,
            id: target.id.clone(),
            kind,
            ok,
        };
        if target.events.send(event).await.is_err() || kind == Kind::Startup && ok {
            return;
        }
    }
}

async fn once(target: &Target, container: &Container, probe: &Probe) -> io::Result<()> {
    if let Some(http) = &probe.http_get {
        let port = port(&http.port, container)?;
        get(&target.node_netns, SocketAddr::new(target.pod_ip, port), http).await
    } else if let Some(tcp) = &probe.tcp_socket {
        let port = port(&tcp.port, container)?;
        connect(&target.node_netns, SocketAddr::new(target.pod_ip, port))
            .await
            .map(drop)
    } else {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the lab knows httpGet and tcpSocket probes",
        ))
    }
}

pub(super) fn port(port: &IntOrString, container: &Container) -> io::Result<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_ref() == Some(name))
            .map(|p| p.container_port),
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a probe's port is unknown"))
}

/// The socket is made in the node's namespace, so the pod sees the bridge's address as its peer.
async fn connect(netns: &str, addr: SocketAddr) -> io::Result<TcpStream> {
    let netns = netns.to_owned();
    let socket = tokio::task::spawn_blocking(move || {
        in_netns(&netns, || {
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            // The kubelet's own choice (pkg/probe/dialer_others.go): no long TIME_WAIT for probes.
            socket.set_linger(Some(Duration::from_secs(1)))?;
            match socket.connect(&addr.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                _ => Ok(socket),
            }
        })
    })
    .await??;
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// One GET from the node's namespace.
pub(super) async fn get(netns: &str, addr: SocketAddr, http: &HTTPGetAction) -> io::Result<()> {
    http_get(connect(netns, addr).await?, http, addr).await
}

/// 200 to 399 is success (pkg/probe/http/http.go, DoHTTPProbe).
async fn http_get(mut stream: TcpStream, http: &HTTPGetAction, addr: SocketAddr) -> io::Result<()> {
    let path = http.path.as_deref().unwrap_or("/");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // 10 KiB is what the kubelet reads.
    stream.take(10 << 10).read_to_end(&mut answer).await?;
    let status = answer
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse::<u16>().ok());
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(io::Error::other(format!(
            "HTTP probe failed with statuscode: {status}"
        ))),
        None => Err(io::Error::other("not an HTTP answer")),
    }
}

//! The proxy's configuration file, and the commands that start the proxy and have it read the file again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::{Context as _, Result};

use super::super::objects::APP_PORT;
use crate::scenario::{Proxy, ProxyKind};

/// What the file follows from. All pods of the proxy share it; each has a folder of its own, `proxy-<pod>`.
#[derive(Clone, Debug)]
pub(in crate::run) struct Config {
    pub(in crate::run) proxy: Proxy,
    /// The run's folder.
    pub(in crate::run) dir: PathBuf,
    /// Family of the endpoints.
    pub(in crate::run) v6: bool,
    /// Cluster addresses by the name of the backend.
    pub(in crate::run) vips: BTreeMap<String, SocketAddr>,
}

/// `$1`: the run's folder, `$2`: the file. The prefix is the pod's own folder.
const START_NGINX: &str =
    "d=$1/proxy-$HOSTNAME; mkdir -p $d; exec nginx -p $d -c $2 -e stderr -g 'daemon off;'";
/// The log is what haproxy prints; `-W`: the first process only watches over the workers, as in the package's unit.
const START_HAPROXY: &str =
    "d=$1/proxy-$HOSTNAME; mkdir -p $d; cd $d; exec haproxy -W -db -f $2 >>access.log";

impl Config {
    fn path(&self) -> PathBuf {
        self.dir.join(match self.proxy.kind {
            ProxyKind::Nginx => "nginx.conf",
            ProxyKind::Haproxy => "haproxy.cfg",
        })
    }

    pub(super) fn vip(&self, backend: &str) -> Option<SocketAddr> {
        self.vips.get(backend).copied()
    }

    /// Puts the file in its place at once: a proxy that starts meanwhile reads the old one or the new one.
    pub(super) fn write(&self, upstreams: &BTreeSet<SocketAddr>) -> Result<()> {
        let text = match self.proxy.kind {
            ProxyKind::Nginx => self.nginx(upstreams),
            ProxyKind::Haproxy => self.haproxy(upstreams),
        };
        let path = self.path();
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// What the container runs.
    pub(super) fn command(&self) -> Vec<String> {
        let script = match self.proxy.kind {
            ProxyKind::Nginx => START_NGINX,
            ProxyKind::Haproxy => START_HAPROXY,
        };
        let (dir, path) = (self.dir.display().to_string(), self.path().display().to_string());
        let shell = ["/bin/sh", "-c", script, "proxy"].map(str::to_owned).into_iter();
        shell.chain([dir, path]).collect()
    }

    /// What an ingress controller runs in it to have the file read again.
    pub(super) fn reload(&self, pod: &str) -> Vec<String> {
        let prefix = self.dir.join(format!("proxy-{pod}")).display().to_string();
        let path = self.path().display().to_string();
        let words: &[&str] = match self.proxy.kind {
            ProxyKind::Nginx => &[
                "nginx", "-p", &prefix, "-c", &path, "-e", "stderr", "-s", "reload",
            ],
            ProxyKind::Haproxy => &["/bin/sh", "-c", "kill -USR2 1"],
        };
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn nginx(&self, upstreams: &BTreeSet<SocketAddr>) -> String {
        let mut servers = String::new();
        for addr in upstreams {
            // As ingress-nginx: no endpoint is set aside for its failures, the list alone counts.
            let _ = writeln!(servers, "    server {addr} max_fails=0;");
        }
        let (upstream, pass) = if servers.is_empty() {
            (String::new(), "return 503;".to_owned())
        } else {
            let upstream = format!("  upstream backend {{\n{servers}  }}\n");
            (upstream, "proxy_pass http://backend;".to_owned())
        };
        let shutdown = self
            .proxy
            .shutdown_timeout_s
            .map_or(String::new(), |s| format!("worker_shutdown_timeout {s}s;\n"));
        let (connect_ms, tries) = (self.proxy.connect_timeout_ms, self.proxy.retries + 1);
        format!(
            r#"user root;
worker_processes 2;
pid nginx.pid;
{shutdown}events {{ worker_connections 4096; }}
http {{
  log_format attempts escape=json '{{"at":$msec,"took":$request_time,"id":"$http_x_request_id","status":"$status","addr":"$upstream_addr","statuses":"$upstream_status","took_each":"$upstream_response_time"}}';
  access_log access.log attempts;
  client_body_temp_path body;
  proxy_temp_path proxied;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
{upstream}  server {{
    listen 0.0.0.0:{APP_PORT} backlog=4096;
    listen [::]:{APP_PORT} backlog=4096;
    location = /ready {{ access_log off; return 200; }}
    location = /healthz {{ access_log off; return 200; }}
    location / {{
      proxy_http_version 1.1;
      proxy_connect_timeout {connect_ms}ms;
      proxy_next_upstream error timeout;
      proxy_next_upstream_tries {tries};
      {pass}
    }}
  }}
}}
"#
        )
    }

    /// The log knows the last attempt of each request, with the port that it was made from.
    fn haproxy(&self, upstreams: &BTreeSet<SocketAddr>) -> String {
        let mut servers = String::new();
        for (n, addr) in upstreams.iter().enumerate() {
            let _ = writeln!(servers, "  server s{n} {addr}");
        }
        let shutdown = self
            .proxy
            .shutdown_timeout_s
            .map_or(String::new(), |s| format!("  hard-stop-after {s}s\n"));
        let (connect_ms, retries) = (self.proxy.connect_timeout_ms, self.proxy.retries);
        format!(
            r#"global
  nbthread 2
{shutdown}  log stdout format raw local0
defaults
  mode http
  log global
  timeout connect {connect_ms}ms
  timeout client 60s
  timeout server 60s
  retries {retries}
  option redispatch 1
frontend edge
  bind 0.0.0.0:{APP_PORT} backlog 4096
  bind [::]:{APP_PORT} v6only backlog 4096
  monitor-uri /ready
  http-request capture req.hdr(X-Request-Id) len 20
  log-format '{{"at":%Ts.%ms,"took":%Ta,"id":"%[capture.req.hdr(0)]","status":"%ST","addr":"%si:%sp","from":"%bi:%bp","ended":"%ts"}}'
  default_backend backend
backend backend
  balance roundrobin
{servers}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: ProxyKind) -> Config {
        Config {
            proxy: Proxy {
                kind,
                retries: 1,
                shutdown_timeout_s: Some(2),
                ..Proxy::default()
            },
            dir: "/x".into(),
            v6: false,
            vips: BTreeMap::new(),
        }
    }

    #[test]
    fn the_file_names_each_upstream_and_none_is_a_503() {
        let one = BTreeSet::from(["10.244.1.3:8080".parse().unwrap()]);
        let nginx = config(ProxyKind::Nginx);
        assert!(nginx.nginx(&one).contains("server 10.244.1.3:8080 max_fails=0;"));
        assert!(nginx.nginx(&one).contains("proxy_next_upstream_tries 2;"));
        assert!(nginx.nginx(&one).contains("worker_shutdown_timeout 2s;"));
        assert!(nginx.nginx(&BTreeSet::new()).contains("return 503;"));
        assert!(
            config(ProxyKind::Haproxy)
                .haproxy(&one)
                .contains("server s0 10.244.1.3:8080\n")
        );
    }
}

//! An API server whose objects are made as they are asked for: of a large cluster nothing is kept but its size.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use zdt_daemon::{clock, input::Ktime};

/// What a large cluster has.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub nodes: usize,
    pub services: usize,
    pub pods_of_each: usize,
    pub changes_a_second: u32,
    pub seconds: u32,
}

/// Pods of the observer's node; a node's usual limit is 110.
const OWN_PODS: usize = 30;

/// A pod whose change is measured has the time of its writing in its name.
const WRITTEN: &str = "written-";

/// When an event was written, by the name of the pod that it is about.
pub fn written_at(pod: &str) -> Option<Ktime> {
    pod.strip_prefix(WRITTEN)?.parse().ok().map(Ktime)
}

/// Serves until it is killed; the first line of its output is its address.
pub fn serve(size: Size) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    for stream in listener.incoming().map_while(Result::ok) {
        thread::spawn(move || connection(size, &stream));
    }
}

/// One client, request after request, until it hangs up.
fn connection(size: Size, stream: &TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let target = first.split(' ').nth(1)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let resource = path.rsplit('/').next()?;
        if query.contains("watch=true") {
            return watch(size, stream, resource);
        }
        let body = match resource {
            "version" => r#"{"major":"1","minor":"36","gitVersion":"v1.36.2","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#.to_owned(),
            _ => page(size, resource, query),
        };
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
    }
}

/// The value of a parameter.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|p| p.strip_prefix(name)?.strip_prefix('='))
}

/// One page of a list.
fn page(size: Size, resource: &str, query: &str) -> String {
    let number = |name| parameter(query, name).and_then(|n| n.parse::<usize>().ok());
    let from = number("continue").unwrap_or(0);
    let all = match resource {
        "pods" => OWN_PODS,
        _ => size.services,
    };
    let to = all.min(from + number("limit").unwrap_or(usize::MAX - from));
    let items: Vec<String> = (from..to).map(|n| object(size, resource, n, None)).collect();
    let token = if to < all { to.to_string() } else { String::new() };
    format!(
        r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"1","continue":"{token}"}},"items":[{}]}}"#,
        items.join(",")
    )
}

/// An object's metadata, as long as a real one's.
fn metadata(name: &str, uid: &str, rest: &str) -> String {
    format!(
        r#"{{"name":"{name}","namespace":"shop","uid":"{uid}","resourceVersion":"2","creationTimestamp":"2026-11-01T00:00:00Z","generation":1,"managedFields":[{{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-11-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{".":{{}},"f:endpoints.kubernetes.io/last-change-trigger-time":{{}}}},"f:labels":{{".":{{}},"f:kubernetes.io/service-name":{{}}}}}}}}}}],{rest}}}"#
    )
}

fn ip(service: usize, pod: usize) -> String {
    let n = service * 32 + pod;
    format!("10.{}.{}.{}", 128 + (n >> 16), n >> 8 & 0xff, n & 0xff)
}

/// The `n`th object of a resource; of a slice, with one pod changed at a time.
fn object(size: Size, resource: &str, n: usize, changed: Option<(usize, Ktime)>) -> String {
    match resource {
        "pods" => {
            let meta = metadata(
                &format!("web-{n}-5895c69847-aaaaa"),
                &format!("own-{n}"),
                &format!(
                    r#""labels":{{"app":"web-{n}","pod-template-hash":"5895c69847"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-{n}-5895c69847","uid":"rs-{n}","controller":true}}]"#
                ),
            );
            format!(
                r#"{{"apiVersion":"v1","kind":"Pod","metadata":{meta},"spec":{{"nodeName":"n0","containers":[{{"name":"app","image":"i","ports":[{{"containerPort":8080}}]}}]}},"status":{{"phase":"Running","podIP":"{}","conditions":[{{"type":"Ready","status":"True"}}]}}}}"#,
                ip(n % size.services, 0)
            )
        }
        "services" => {
            let meta = metadata(
                &format!("web-{n}"),
                &format!("s-{n}"),
                r#""labels":{"app":"web"}"#,
            );
            format!(
                r#"{{"apiVersion":"v1","kind":"Service","metadata":{meta},"spec":{{"type":"ClusterIP","clusterIP":"10.{}.{}.{}","clusterIPs":["10.{}.{}.{}"],"selector":{{"app":"web-{n}"}},"ports":[{{"name":"http","port":80,"targetPort":8080,"protocol":"TCP"}}]}}}}"#,
                96 + (n >> 16),
                n >> 8 & 0xff,
                n & 0xff,
                96 + (n >> 16),
                n >> 8 & 0xff,
                n & 0xff
            )
        }
        "replicasets" => {
            let meta = metadata(
                &format!("web-{n}-5895c69847"),
                &format!("rs-{n}"),
                &format!(
                    r#""labels":{{"pod-template-hash":"5895c69847"}},"annotations":{{"deployment.kubernetes.io/revision":"7","deployment.kubernetes.io/desired-replicas":"15"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"Deployment","name":"web-{n}","uid":"d-{n}","controller":true}}]"#
                ),
            );
            format!(
                r#"{{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{meta},"spec":{{"replicas":15,"selector":{{"matchLabels":{{"app":"web-{n}"}}}},"template":{{"metadata":{{"labels":{{"app":"web-{n}"}}}},"spec":{{"containers":[{{"name":"app","image":"i"}}]}}}}}}}}"#
            )
        }
        _ => slice(size, n, changed),
    }
}

fn slice(size: Size, n: usize, changed: Option<(usize, Ktime)>) -> String {
    let meta = metadata(
        &format!("web-{n}-abcde"),
        &format!("es-{n}"),
        &format!(
            r#""labels":{{"kubernetes.io/service-name":"web-{n}"}},"annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"2026-11-01T00:00:00Z"}}"#
        ),
    );
    let mut endpoints = String::new();
    for pod in 0..size.pods_of_each {
        let new = changed.filter(|(which, _)| *which == pod);
        let name = new.map_or_else(
            || format!("web-{n}-5895c69847-{pod:05}"),
            |(_, at)| format!("{WRITTEN}{}", at.0),
        );
        let comma = if pod > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            endpoints,
            r#"{comma}{{"addresses":["{}"],"conditions":{{"ready":{},"serving":true,"terminating":{}}},"nodeName":"n{}","zone":"a","targetRef":{{"kind":"Pod","namespace":"shop","name":"{name}","uid":"{n:08x}-{pod:04x}-4000-8000-000000000000"}}}}"#,
            ip(n, pod),
            new.is_none(),
            new.is_some(),
            (n * size.pods_of_each + pod) % size.nodes,
        );
    }
    format!(
        r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{meta},"addressType":"IPv4","ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],"endpoints":[{endpoints}]}}"#
    )
}

/// Slices change at the rate that is set, evenly; nothing else does.
fn watch(size: Size, mut stream: &TcpStream, resource: &str) -> Option<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .ok()?;
    if resource != "endpointslices" {
        thread::sleep(Duration::MAX);
    }
    let began = Instant::now();
    for n in 0_u32.. {
        let due = Duration::from_secs(1) / size.changes_a_second * n;
        thread::sleep(due.saturating_sub(began.elapsed()));
        // Scattered over the services, and each time another pod.
        let n = n as usize;
        let (service, pod) = (n * 7919 % size.services, n % size.pods_of_each);
        let object = object(size, resource, service, Some((pod, clock::now())));
        let line = format!("{{\"type\":\"MODIFIED\",\"object\":{object}}}\n");
        write!(stream, "{:x}\r\n{line}\r\n", line.len()).ok()?;
    }
    None
}

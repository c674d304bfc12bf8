//! The Job controller: pods that run until enough of them have succeeded.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pods;
use super::queue::Queue;
use super::{Settings, names};
use crate::api::events::{Said, Source, record, reference};
use crate::api::{Change, Store, StoreError};

const SOURCE: Source<'static> = Source {
    component: "job-controller",
    host: None,
};

/// Runs until dropped (or the store ends).
pub async fn run(store: Store, settings: Settings) {
    let timings = settings.timings.clone();
    let mut rng = settings.rng("job");
    let mut names = settings.rng("job names");
    let mut jobs = store.watch::<Job>();
    let mut members = store.watch::<Pod>();
    let mut queue = Queue::default();
    loop {
        tokio::select! {
            biased;
            change = jobs.next_timed() => {
                let Some((at, change)) = change else { return };
                if let Change::Applied(job) = change && job.status.is_none() {
                    queue.add(pods::key(&job.metadata), at + timings.replicaset_follows_spec.draw(&mut rng));
                }
            }
            change = members.next_timed() => {
                let Some((at, Change::Applied(pod) | Change::Deleted(pod))) = change else { return };
                if let Some(owner) = pods::controller_of(&pod.metadata, "Job") {
                    let key = (pod.metadata.namespace.clone().unwrap_or_default(), owner.name.clone());
                    queue.add(key, at + timings.replicaset_follows_pod.draw(&mut rng));
                }
            }
            key = queue.next() => {
                let Some(job) = store.get::<Job>(&key.0, &key.1) else { continue };
                if let Err(error) = reconcile(&store, &job, &mut names) {
                    tracing::debug!(%error, "job controller: an object went by itself");
                }
            }
        }
    }
}

fn reconcile(store: &Store, job: &Job, rng: &mut fastrand::Rng) -> Result<(), StoreError> {
    let (namespace, name) = pods::key(&job.metadata);
    let spec = job.spec.clone().unwrap_or_default();
    let completions = spec.completions.unwrap_or(1);
    let mut members = store.list::<Pod>();
    members.retain(|pod| {
        pods::controller_of(&pod.metadata, "Job")
            .is_some_and(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
    });
    let count = |phase: &str| {
        let of = members.iter().filter(|pod| pods::phase(pod) == phase);
        i32::try_from(of.count()).unwrap_or(i32::MAX)
    };
    let (succeeded, failed) = (count("Succeeded"), count("Failed"));
    let active = count("Pending") + count("Running");
    let gives_up = failed > spec.backoff_limit.unwrap_or(6);
    let room = spec.parallelism.unwrap_or(1) - active;
    let missing = if gives_up {
        0
    } else {
        room.min(completions - succeeded - active)
    };
    for _ in 0..missing {
        let pod_name = format!("{name}-{}", names::suffix(rng));
        let owner = pods::owner::<Job>(&job.metadata);
        let mut pod = pods::from_template(&spec.template, &namespace, pod_name.clone(), Some(owner));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert("batch.kubernetes.io/job-name".to_owned(), name.clone());
        labels.insert("job-name".to_owned(), name.clone());
        store.create(pod)?;
        let said = format!("Created pod: {pod_name}");
        record(
            store,
            &reference(job),
            SOURCE,
            Said::normal("SuccessfulCreate", &said),
        );
    }
    let ended = match (gives_up, succeeded >= completions) {
        (true, _) => Some("Failed"),
        (_, true) => Some("Complete"),
        _ => None,
    };
    store.update(&namespace, &name, |job: &mut Job| {
        let was = job.status.take().unwrap_or_default();
        let now = Some(Time(Timestamp::now()));
        let mut conditions = was.conditions.clone().unwrap_or_default();
        if let Some(ended) = ended.filter(|_| conditions.is_empty()) {
            conditions.push(JobCondition {
                type_: ended.to_owned(),
                status: "True".to_owned(),
                last_transition_time: now.clone(),
                ..JobCondition::default()
            });
        }
        job.status = Some(JobStatus {
            active: Some(active + missing.max(0)),
            succeeded: Some(succeeded),
            failed: Some(failed),
            start_time: was.start_time.clone().or_else(|| now.clone()),
            completion_time: was
                .completion_time
                .clone()
                .or(now.filter(|_| ended == Some("Complete"))),
            conditions: Some(conditions).filter(|all| !all.is_empty()),
            ..was
        });
    })?;
    Ok(())
}

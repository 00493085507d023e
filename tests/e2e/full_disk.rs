//! A full disk: new work is refused with 503, accepted work finishes, and room heals it.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::process::Signal;
use serde_json::json;

use millhand_tests::client::id;
use millhand_tests::{Launch, Provider, Server, wait_for};

/// A disk of its own; needs to be root, as `./tests/run` in CI is.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting a small disk needs root");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room that is left, while the server stands still: what it then frees for its accepted work
    /// stays free.
    async fn fill(&self, name: &str, server: &Server) {
        server.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", server.pid());
        let stands = |thread: io::Result<DirEntry>| {
            fs::read_to_string(thread.unwrap().path().join("status")).unwrap().contains("State:\tT")
        };
        wait_for("each thread of the server to stand still", || async {
            fs::read_dir(&threads).unwrap().all(stands).then_some(())
        })
        .await;
        let room = statvfs(self.path()).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
        let file = File::create(self.path().join(name)).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, room).unwrap();
        server.signal(Signal::CONT);
    }

    fn free(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server's last files may still be open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Submits until the server has seen that the disk is full.
async fn refused(server: &Server) {
    let refused = wait_for("a refusal", || async {
        let answer = server.client.post("/v1/jobs", &json!({"input": "x tokens=1", "agent": "chat"})).await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (503, Some("storage_full")),
        "{}",
        refused.text
    );
    assert!(refused.headers.contains_key("retry-after"));
}

/// A server on a small disk, and jobs of five seconds whose calls are under way.
async fn busy() -> (SmallDisk, Provider, Server, Vec<String>) {
    let (disk, model) = (SmallDisk::mount(96), Provider::start().await);
    let server = Launch::new(&disk.path().join("data")).model(&model.base_url()).start().await;
    let mut running = Vec::new();
    for n in 0..5 {
        running.push(server.client.chat(&format!("r{n} tokens=100 gap=50")).await);
    }
    wait_for("them to run", || async { (model.calls().await.len() >= 5).then_some(()) }).await;
    (disk, model, server, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_new_work_and_finishes_old_work() {
    let (disk, _model, server, running) = busy().await;
    disk.fill("other-program", &server).await;
    refused(&server).await;
    for job in &running {
        assert_eq!(server.client.finished(job).await["status"], "completed", "accepted work goes on");
    }
    disk.free("other-program");
    let job = wait_for("accepts to come back", || async {
        let answer =
            server.client.post("/v1/jobs", &json!({"input": "healed tokens=2", "agent": "chat"})).await;
        (answer.status == 202).then(|| id(&answer.json()))
    })
    .await;
    assert_eq!(server.client.finished(&job).await["status"], "completed", "without a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_finds_no_room_at_all_waits_for_it() {
    let (disk, model, server, running) = busy().await;
    disk.fill("other-program", &server).await;
    wait_for("the reserve to be spent", || async {
        (!disk.path().join("data/RESERVE").exists()).then_some(())
    })
    .await;
    disk.fill("and-another", &server).await;
    refused(&server).await;
    let stuck = wait_for("a write that failed for lack of any room", || async {
        let log = server.logged();
        (log.matches("store rolled a transaction back").count() >= 10).then_some(log)
    })
    .await;
    assert!(!stuck.contains("aborting"), "{stuck}");
    for job in &running {
        assert_eq!(server.client.job(job).await["status"], "in_progress", "it waits");
    }
    disk.free("and-another");
    for job in &running {
        let done = server.client.finished(job).await;
        assert_eq!((&done["status"], &done["attempt"]), (&json!("completed"), &json!(1)), "{done}");
    }
    assert_eq!(model.calls().await.len(), running.len(), "nothing was asked for twice");
}

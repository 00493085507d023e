//! A full disk: new work is refused with 503, accepted work finishes, and room heals it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use millhand_tests::{Launch, Provider, wait_for};

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

    /// Takes what room is left, up to a few bytes.
    fn fill(&self) {
        let mut file = File::create(self.path().join("other-program")).unwrap();
        while file.write_all(&[7; 1 << 16]).is_ok() {}
        // The rest in small pieces; an error means it is full.
        while file.write_all(&[7; 512]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.path().join("other-program")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server's last files may still be open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_new_work_and_finishes_old_work() {
    let (disk, model) = (SmallDisk::mount(96), Provider::start().await);
    let server = Launch::new(&disk.path().join("data")).model(&model.base_url()).start().await;
    let mut running = Vec::new();
    for n in 0..5 {
        running.push(server.client.chat(&format!("r{n} tokens=40 gap=50")).await);
    }
    wait_for("them to run", || async { (model.calls().await.len() >= 5).then_some(()) }).await;
    disk.fill();
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
    for job in &running {
        assert_eq!(server.client.finished(job).await["status"], "completed", "accepted work goes on");
    }
    disk.free();
    let job = wait_for("accepts to come back", || async {
        let answer =
            server.client.post("/v1/jobs", &json!({"input": "healed tokens=2", "agent": "chat"})).await;
        (answer.status == 202).then(|| millhand_tests::client::id(&answer.json()))
    })
    .await;
    assert_eq!(server.client.finished(&job).await["status"], "completed", "without a restart");
}

//! Temporary bring-up of the server.
use crate::{
    disk::*,
    exports::*,
    worker::{self, mailbox::*},
};
use drivers::{Settings, StartOptions, SystemOpener};
use std::sync::Arc;
pub(crate) fn quick() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let sock = args[0].clone();
    let n: usize = args[1].parse()?;
    let ty = drivers::find(&args[2])?;
    let settings = Settings::parse(ty.name(), ty.properties(), ty.magic_property(), &args[3..])?;
    let dev = ty
        .connect(&settings, &SystemOpener)?
        .start(&settings, StartOptions { workers: n, region_bytes: 32 << 20 })?;
    let boxes: Vec<Arc<Mailbox>> = (0..n).map(|_| Mailbox::new().map(Arc::new)).collect::<Result<_, _>>()?;
    let shared = Arc::new(DiskShared::new(dev, 0, boxes.clone()));
    let table = Arc::new(ExportTable::new(vec![Export {
        name: String::new(),
        description: None,
        read_only: false,
        disk: shared.clone(),
    }]));
    for (i, mb) in boxes.iter().cloned().enumerate() {
        let shared = shared.clone();
        let table = table.clone();
        std::thread::spawn(move || {
            tokio_uring::start(async move {
                let disk = Disk::open(shared, i).unwrap();
                let w = worker::Worker::new(
                    mb,
                    table,
                    vec![disk],
                    std::time::Duration::from_micros(
                        std::env::var("SPIN").ok().and_then(|s| s.parse().ok()).unwrap_or(50),
                    ),
                )
                .unwrap();
                worker::serve(w).await.unwrap();
            });
        });
    }
    let _ = std::fs::remove_file(&sock);
    let l = std::os::unix::net::UnixListener::bind(&sock)?;
    let mut i = 0;
    for c in l.incoming() {
        boxes[i % n].post(Message::Connection(c?.into()));
        i += 1;
    }
    Ok(())
}

//! `portcullis demo`: stages, an S3 store, a warehouse and sidecars on this machine, as they stand in production.

mod client;
mod postgres;
mod scenario;
mod sidecar;
mod store;
mod table;
mod world;

use std::pin::pin;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::FAILURE;
use scenario::Row;
use world::World;

/// Options of `portcullis demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Run the scenario and exit: 0 if every row came out as it should
    #[arg(long)]
    once: bool,
}

/// Runs the scenario, prints what came out, and stays up unless asked not to.
pub(super) fn run(arguments: &DemoArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    runtime.block_on(async {
        let mut asked_to_end = pin!(until_asked_to_end());
        let played = tokio::select! {
            // First, so that a signal ends nothing by itself from here on.
            biased;
            () = asked_to_end.as_mut() => Err("ended before there was anything to show".into()),
            played = play() => played,
        };
        let (mut world, rows) = match played {
            Ok(played) => played,
            Err(error) => return failed(&error),
        };
        println!("{}", table::render(&rows));
        if let Err(why) = &world.warehouse {
            println!("The warehouse is left out: {why}.\n");
        }
        let as_expected = rows.iter().all(Row::is_as_expected);
        if !arguments.once {
            println!("{}", table::invitation(&world));
            asked_to_end.await;
        }
        world.stop();
        if as_expected { ExitCode::SUCCESS } else { failed("a row did not come out as it should") }
    })
}

async fn play() -> Result<(World, Vec<Row>), String> {
    let world = World::start().await?;
    let rows = scenario::play(&world).await?;
    Ok((world, rows))
}

/// Ctrl-C or SIGTERM: after either nothing is left behind.
async fn until_asked_to_end() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _interrupted = tokio::signal::ctrl_c().await;
        }
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("portcullis demo: {why}");
    ExitCode::from(FAILURE)
}

//! Generates the stubs from protos/ with protox, a protobuf compiler in Rust: no protoc is needed.

use std::{env, fs, path::PathBuf, process::Command};

use prost::Message;

const PROTOS: [&str; 6] = [
    "stepwire/v1/run_service.proto",
    "stepwire/v1/schedule_service.proto",
    "stepwire/v1/snapshot_service.proto",
    "stepwire/v1/state_service.proto",
    "stepwire/v1/types.proto",
    "stepwire/v1/workflow_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let protos = root.join("protos");
    let imported = protos.join(".deps"); // google/rpc/status.proto
    println!("cargo:rerun-if-changed={}", protos.join("stepwire").display());

    if !imported.join("google/rpc/status.proto").exists() {
        let status = Command::new(root.join(".venv/bin/python")).arg(root.join("tools/protos.py")).arg("deps").status();
        if !status.is_ok_and(|status| status.success()) {
            return Err("protos/.deps is not there: run `make venv` in the root of the checkout first".into());
        }
    }

    let descriptors = protox::compile(PROTOS, [&protos, &imported])?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("stepwire.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}

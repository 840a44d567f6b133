// The conformance driver: runs the scenarios of a table, prints a line of JSON for each.
//
// conformance TABLE.json
// conformance bench-stream STEPWIRE_ADDRESS RAW_ADDRESS RUN_ID ROUNDS
// conformance --version

#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <google/protobuf/stubs/common.h>
#include <grpcpp/grpcpp.h>

#include "bench.h"
#include "scenario.h"

namespace {

void run_table(const std::string& path) {
  std::ifstream file(path);
  const json table = json::parse(file);
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels;
  for (const auto& [name, address] : table.at("servers").items()) {
    channels[name] = grpc::CreateChannel(address.get<std::string>(), grpc::InsecureChannelCredentials());
  }
  for (const json& scenario : table.at("scenarios")) {
    const auto& channel = channels.at(scenario.value("server", "main"));
    std::cout << dumped(run_scenario(scenario, channel, table.at("vars"))) << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments == std::vector<std::string>{"--version"}) {
      std::cout << "g++ " << __VERSION__ << ", gRPC " << grpc::Version() << ", protobuf "
                << google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION) << std::endl;
    } else if (arguments.size() == 5 && arguments[0] == "bench-stream") {
      const json figures = bench_stream(arguments[1], arguments[2], arguments[3], std::stoi(arguments[4]));
      std::cout << dumped(figures) << std::endl;
    } else if (arguments.size() == 1) {
      run_table(arguments[0]);
    } else {
      std::cerr << "usage: conformance TABLE.json | bench-stream STEPWIRE RAW RUN_ID ROUNDS | --version\n";
      return 2;
    }
  } catch (const std::exception& error) {
    std::cerr << "conformance: " << error.what() << '\n';
    return 1;
  }
  return 0;
}

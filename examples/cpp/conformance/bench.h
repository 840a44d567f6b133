// How fast one run's stream is read.
#pragma once

#include <string>

#include "matching.h"

// Reads the stream of a run from both addresses in turn, `rounds` times each after one round that does not count.
// Returns {"events": entries in one stream, "stepwire": median seconds, "raw": median seconds}.
json bench_stream(const std::string& stepwire, const std::string& raw, const std::string& run_id, int rounds);

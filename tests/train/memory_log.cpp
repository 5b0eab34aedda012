// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include <longspan/train/memory_log.hpp>

#include "../model/configs.hpp"

namespace models {

TEST_CASE("memory log: the peak is the plan's, and each phase's is what its moments hold") {
    using phase = config<llama, local, offload<selective>, fp32>;
    trainer<phase> t{seed{1}};
    const token_batch batches[] = {odd_batch(llama.vocabulary, 1), odd_batch(llama.vocabulary, 2)};
    const step_report report = t.step(batches);
    const memory_marks held = report.memory;
    CHECK(std::max({held.forward, held.turn, held.backward}) == plan<phase, host::cpu>.peak());
    // What a phase holds, from the layout: here the turn is narrower than a block's scratch.
    using memory = decoder_memory<model_of_config<phase>, attention_of<phase>, host::cpu>;
    const stack_bytes s = memory::stack(budget);
    const auto at = [](const layout& regions) { return regions.peak(host_alignment); };
    const bytes whole = at(standing_memory<phase>()) + at(memory::tables(budget, 16)) + at(memory::gradient_stream(budget)) +
                        2 * at(region("", s.stream)) + 2 * at(s.saved.only([](cost worth) { return worth >= cost::attention; })) +
                        at(s.saved.only([](cost worth) { return worth < cost::attention; }));
    CHECK(held.forward == whole + at(region("", s.stream)) + at(s.forward_scratch));
    CHECK(held.turn == whole + at(region("", s.stream)) + at(s.turn));
    CHECK(held.backward == std::max(whole + at(region("", s.stream)), whole + at(s.backward_scratch)));
    static_assert(trainer<phases<config<llama, local, selective, fp32>, phase>>::pinned_needed == plan<phase, host::cpu>.pinned);
    CHECK(held.pinned == plan<phase, host::cpu>.pinned);
    CHECK(held.pinned == at(region("", s.stream)) + at(s.saved.only([](cost worth) { return worth >= cost::attention; })));
    CHECK(held.update == t.memory().used() + host::cpu::update_workspace(parameter_layout<model_of_config<phase>>::size));

    const std::filesystem::path path = std::filesystem::temp_directory_path() / ("longspan_memory_" + std::to_string(std::random_device{}()) + ".jsonl");
    logbook log(path.string());
    log.line({{"step", report.step}}, memory_fields<phase, host::cpu>(report));
    std::string text;
    std::getline(std::ifstream(path), text);
    std::filesystem::remove(path);
    const auto number = [](bytes n) { return std::to_string(n); };
    CHECK(text == "{\"step\":1,\"memory_planned\":" + number(plan<phase, host::cpu>.peak()) + ",\"memory\":" + number(report.high_water) +
                      ",\"memory_forward\":" + number(held.forward) + ",\"memory_turn\":" + number(held.turn) + ",\"memory_backward\":" +
                      number(held.backward) + ",\"memory_update\":" + number(held.update) +
                      ",\"pinned_planned\":" + number(plan<phase, host::cpu>.pinned) + ",\"pinned\":" + number(held.pinned) + "}");
    CHECK_THROWS_AS(log.line({{"memory", 1}}, memory_fields<phase, host::cpu>(report)), bad_argument);
}

}  // namespace models

// SPDX-License-Identifier: Apache-2.0
//
// What a step held, for the log of a run: the peak that the plan promised, the peak that was measured, and the high-water mark of each
// phase of the step; then the two peaks of the pinned host memory to which tensors leave. All but the plan are counted from the regions
// that the step took and gave back; on a device, when it was recorded.
//
//     log.line({{"step", report.step}, {"loss", report.loss}}, ls::memory_fields<phase, backend>(report));
//
// Not reachable from longspan.hpp.
#pragma once

#include <array>

#include <longspan/model/plan.hpp>
#include <longspan/train/logbook.hpp>
#include <longspan/train/report.hpp>

namespace longspan {

/// The fields of a line: bytes, as integers.
template <configuration Phase, class Backend>
[[nodiscard]] std::array<log_field, 8> memory_fields(const step_report& report) {
    return {{{"memory_planned", plan<Phase, Backend>.peak()},
             {"memory", report.high_water},
             {"memory_forward", report.memory.forward},
             {"memory_turn", report.memory.turn},
             {"memory_backward", report.memory.backward},
             {"memory_update", report.memory.update},
             {"pinned_planned", plan<Phase, Backend>.pinned},
             {"pinned", report.memory.pinned}}};
}

}  // namespace longspan

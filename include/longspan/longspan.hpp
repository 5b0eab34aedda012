// SPDX-License-Identifier: Apache-2.0
//
// Everything a training program on the host needs: the axes of a configuration, the trainer, batches from memory. What reads
// or writes files has headers of its own: data/text_files.hpp, train/snapshot.hpp, train/logbook.hpp.
#pragma once

#include <longspan/batch/loader.hpp>
#include <longspan/checkpoint/offload.hpp>
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/checkpoint/reversible.hpp>
#include <longspan/checkpoint/selective.hpp>
#include <longspan/data/text_documents.hpp>
#include <longspan/host/cpu.hpp>
#include <longspan/memory/describe.hpp>
#include <longspan/model/config.hpp>
#include <longspan/model/plan.hpp>
#include <longspan/optim/schedule.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
#include <longspan/pattern/blocks.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/stack.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>
#include <longspan/precision/policy.hpp>
#include <longspan/train/trainer.hpp>

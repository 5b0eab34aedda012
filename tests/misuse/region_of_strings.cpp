// SPDX-License-Identifier: Apache-2.0
// expect: a region holds plain data
#include <longspan/memory/arena.hpp>

#include <string>
namespace ls = longspan;

#ifdef MISUSE
using element = std::string;
#else
using element = float;
#endif
element* first(const ls::held_region& region) { return region.as<element>(); }

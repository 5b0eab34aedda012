// SPDX-License-Identifier: Apache-2.0
#include "made_elsewhere.hpp"

LONGSPAN_INSTANTIATE(elsewhere::config, elsewhere::named<longspan::host::cpu, 2>);

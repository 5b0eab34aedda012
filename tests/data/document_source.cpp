// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/data/document_source.hpp>
#include <longspan/data/text_documents.hpp>

namespace ls = longspan;
using ls::index;

namespace {

/// Random access into counted numbers: the least that a source can be. Documents of more than 2^31 tokens cost nothing here.
struct counting_source {
    [[nodiscard]] index count() const { return 3; }
    [[nodiscard]] index size(index i) const { return (index{1} << 33) + i; }
    [[nodiscard]] const char* name(index) const { return "numbers"; }
    [[nodiscard]] std::uint64_t digest(index i) const { return ls::mix64(static_cast<std::uint64_t>(i)); }
    [[nodiscard]] index vocabulary() const { return 1000; }
    void read(index, index first, std::span<ls::token_id> out) const {
        for (std::size_t k = 0; k < out.size(); ++k) out[k] = static_cast<ls::token_id>((first + static_cast<index>(k)) % 1000);
    }
};
struct nameless : counting_source {
    void name(index) const;
};

}  // namespace

static_assert(ls::document_source<counting_source>);
static_assert(!ls::selectable_source<counting_source>);
static_assert(!ls::weighted_source<counting_source>);
static_assert(!ls::document_source<nameless>);
static_assert(!ls::document_source<int>);

TEST_CASE("document_source: totals go beyond 32 bits") {
    CHECK(ls::total_tokens(counting_source{}) == 3 * (index{1} << 33) + 3);
    CHECK(ls::total_tokens(ls::text_documents{}) == 0);
}

TEST_CASE("fingerprint: names, sizes, contents, their number and their order count") {
    const auto of = [](std::initializer_list<std::pair<const char*, const char*>> named) {
        ls::text_documents source;
        for (const auto& [name, text] : named) source.add(text, name);
        return ls::fingerprint(source);
    };
    const std::uint64_t original = of({{"a", "one"}, {"b", "two"}});
    CHECK(of({{"a", "one"}, {"b", "two"}}) == original);
    CHECK(of({{"b", "two"}, {"a", "one"}}) != original);
    CHECK(of({{"a", "one"}, {"c", "two"}}) != original);
    CHECK(of({{"a", "one"}, {"b", "twO"}}) != original);
    CHECK(of({{"a", "one"}, {"b", "two "}}) != original);
    CHECK(of({{"a", "one"}, {"b", "two"}, {"c", ""}}) != original);
}

#include "fedclient/flower/records.h"

#include <gtest/gtest.h>

namespace cardionode::fed {
namespace {

Record all_types() {
    return {{"real", 0.25},
            {"sint", std::int64_t{-7}},
            {"uint", std::uint64_t{7}},
            {"truth", true},
            {"text", std::string("word")},
            {"reals", std::vector<double>{1, 2.5}},
            {"sints", std::vector<std::int64_t>{-1, 2}},
            {"uints", std::vector<std::uint64_t>{1, 2}},
            {"truths", std::vector<bool>{true, false}},
            {"texts", std::vector<std::string>{"a", ""}}};
}

TEST(Records, ConfigKeepsEveryTypeOfValue) {
    const auto read = parse_config_body(config_body(all_types()));
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(*read, all_types());
}

TEST(Records, MetricsAreNumbers) {
    const Record metrics = {{"num-examples", std::int64_t{12}}, {"n/aorta", 3.0}, {"list", std::vector<double>{1}}};
    const auto body = metric_body(metrics);
    ASSERT_TRUE(body.ok());
    EXPECT_EQ(parse_metric_body(*body).value(), metrics);
    const auto refused = metric_body({{"name", std::string("x")}});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Bug);
    EXPECT_FALSE(parse_metric_body(config_body({{"name", std::string("x")}})).ok());
}

TEST(Records, TheWireIsThatOfFlower) {
    // items=1 { key=1 "a", value=2 { sint64=2: zigzag of 1 } }
    EXPECT_EQ(config_body({{"a", std::int64_t{1}}}), std::string("\x0a\x07\x0a\x01\x61\x12\x02\x10\x02"));
    // string=5
    EXPECT_EQ(config_body({{"a", std::string("b")}}), std::string("\x0a\x08\x0a\x01\x61\x12\x03\x2a\x01\x62"));
}

TEST(Records, RefuseDamagedBodies) {
    EXPECT_FALSE(parse_config_body("\x0a\x7f").ok());
    EXPECT_FALSE(parse_config_body(std::string("\x0a\x03\x0a\x01\x61")).ok());  // a key without a value
    const std::string one = config_body({{"a", 1.0}});
    EXPECT_FALSE(parse_config_body(one + one).ok());  // the same key twice
    EXPECT_FALSE(parse_record_object({{ObjectType::ArrayChunk, {}, 0, 0}, one}).ok());
}

TEST(Records, EqualRecordsHaveEqualIds) { EXPECT_EQ(make_config_object(all_types()), make_config_object(all_types())); }

}  // namespace
}  // namespace cardionode::fed

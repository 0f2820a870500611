#include "fedclient/flower/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cardionode::fed {
namespace {

using testing::HasSubstr;

std::string head_of(const std::string& text, char major = 1) {
    std::string head("\x93NUMPY", 6);
    head += major;
    head += '\0';
    head += static_cast<char>(text.size() & 0xFF);
    head += static_cast<char>(text.size() >> 8);
    return head + text;
}

std::string dict(const std::string& descr, const std::string& order, const std::string& shape) {
    return head_of("{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }   \n");
}

void expect_refused(const std::string& bytes, const std::string& words) {
    const auto head = parse_npy_head(bytes);
    ASSERT_FALSE(head.ok()) << words;
    EXPECT_EQ(head.error().kind, ErrorKind::Reject);
    EXPECT_THAT(head.error().message, HasSubstr(words));
}

TEST(Npy, WritesTheHeadThatNumpyWrites) {
    const std::string head = make_npy_head({2, 3});
    EXPECT_EQ(head.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
    EXPECT_EQ(head.substr(10, 59), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
    EXPECT_EQ(head.size() % 64, 0U);
    EXPECT_EQ(head.back(), '\n');
    EXPECT_THAT(make_npy_head({3}), HasSubstr("(3,)"));
    EXPECT_THAT(make_npy_head({}), HasSubstr("()"));
}

TEST(Npy, ReadsWhatItWrites) {
    for (const std::vector<std::int64_t>& shape :
         {std::vector<std::int64_t>{}, {3}, {2, 3}, {0}, {1, 2, 3, 4, 5}, {1'000'000'000}}) {
        const std::string written = make_npy_head(shape);
        const auto head = parse_npy_head(written + "values");
        ASSERT_TRUE(head.ok()) << head.error().message;
        EXPECT_EQ(head->shape, shape);
        EXPECT_EQ(head->value_bytes, 4U);
        EXPECT_EQ(head->bytes, written.size());
    }
}

TEST(Npy, ReadsOtherFloatsAndSpellings) {
    EXPECT_EQ(parse_npy_head(dict("'<f8'", "False", "(2, 3)"))->value_bytes, 8U);
    EXPECT_EQ(parse_npy_head(dict("'<f2'", "False", "(2, 3)"))->value_bytes, 2U);
    const auto head = parse_npy_head(head_of("{\"shape\":(7,),\"descr\":\"<f4\",\"fortran_order\":False}\n"));
    ASSERT_TRUE(head.ok()) << head.error().message;
    EXPECT_EQ(head->shape, std::vector<std::int64_t>{7});
}

TEST(Npy, RefusesWhatCouldRunCodeOrMislead) {
    expect_refused(dict("'|O'", "False", "(2,)"), "pickled objects");
    expect_refused(dict("'O'", "False", "(2,)"), "pickled objects");
    expect_refused(dict("[('a', '<f4')]", "False", "(2,)"), "structured");
    expect_refused(dict("'<f4'", "True", "(2, 2)"), "Fortran");
    expect_refused(dict("'>f4'", "False", "(2,)"), ">f4");
    expect_refused(dict("'<i8'", "False", "(2,)"), "only little-endian floats");
}

TEST(Npy, RefusesDamagedHeads) {
    expect_refused("", "version 1.0");
    expect_refused("PK\x03\x04 zip archive", "version 1.0");
    expect_refused(head_of("{}\n", 2), "version 1.0");
    expect_refused(dict("'<f4'", "False", "(2,)").substr(0, 40), "ends in its head");
    expect_refused(head_of("{'descr': '<f4'}\n"), "missing");
    expect_refused(head_of("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}\n"), "twice");
    expect_refused(head_of("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}\n"), "not known");
    expect_refused(head_of("{'descr': '<f4', 'fortran_order': False, 'shape': ()} import os\n"), "after the head");
    expect_refused(head_of("{'descr': '<f4', 'fortran_order': False, 'shape': ()}"), "line end");
    expect_refused(dict("'<f4'", "0", "(2,)"), "neither True nor False");
    expect_refused(dict("'<f4'", "False", "[2]"), "no tuple");
    expect_refused(dict("'<f4'", "False", "(2)"), "no tuple");
    expect_refused(dict("'<f4'", "False", "(-2,)"), "no length");
    expect_refused(dict("'<f4'", "False", "(2 3)"), "no length");
    expect_refused(dict("'<f4'", "False", "(99999999, 99999999, 99999999)"), "more values");
    expect_refused(dict("'<f4'", "False", "(99999999999999999999,)"), "no length");
}

}  // namespace
}  // namespace cardionode::fed

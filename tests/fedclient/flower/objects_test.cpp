#include "fedclient/flower/objects.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/hash.h"
#include "fedclient/flower/object_store.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string id_of(char c) { return std::string(64, c); }

std::string object_text(const std::string& head, const std::string& body) { return head + '\0' + body; }

TEST(Objects, BytesAreTypeChildrenLengthAndBody) {
    EXPECT_EQ(make_object(ObjectType::ArrayChunk, {}, "abc"), object_text("ArrayChunk  3", "abc"));
    EXPECT_EQ(make_object(ObjectType::Array, {id_of('a'), id_of('b')}, ""),
              object_text("Array " + id_of('a') + "," + id_of('b') + " 0", ""));
    // The digest of these bytes by sha256sum.
    EXPECT_EQ(sha256_hex(make_object(ObjectType::ArrayChunk, {}, "abc")),
              "8f373c1473d725a61442838233deff2aa2a89f72184e517b6a621a3b53abbbd6");
}

TEST(Objects, ReadWhatWasWritten) {
    const auto object =
        parse_object(make_object(ObjectType::RecordDict, {id_of('0'), id_of('f')}, std::string("a\0b", 3)));
    ASSERT_TRUE(object.ok()) << object.error().message;
    EXPECT_EQ(object->head.type, ObjectType::RecordDict);
    EXPECT_THAT(object->head.children, ElementsAre(id_of('0'), id_of('f')));
    EXPECT_EQ(object->body, std::string("a\0b", 3));
}

TEST(Objects, RefuseMalformedBytes) {
    const std::string a = id_of('a');
    for (const std::string& bytes :
         {std::string(), std::string("Array  3abc"), object_text("Array 3", "abc"), object_text("Pickle  3", "abc"),
          object_text("Array  4", "abc"), object_text("Array  2", "abc"), object_text("Array  x", "abc"),
          object_text("Array  -3", "abc"), object_text("Array  3 ", "abc"), object_text("Array abc 3", "abc"),
          object_text("Array " + a + ", 3", "abc"), object_text("Array " + a + a + " 3", "abc"),
          object_text("Array " + a + "," + a + " 3", "abc"), object_text("Array " + id_of('A') + " 3", "abc"),
          object_text("Array  99999999999999999999", "abc")}) {
        const auto object = parse_object(bytes);
        ASSERT_FALSE(object.ok()) << bytes;
        EXPECT_EQ(object.error().kind, ErrorKind::Reject);
    }
}

TEST(Objects, NamesAndChildrenMustAgree) {
    const std::string bytes =
        make_name_object(ObjectType::RecordDict, {{"z", id_of('1')}, {"a", id_of('2')}, {"b", id_of('1')}});
    const auto object = parse_object(bytes);
    ASSERT_TRUE(object.ok());
    EXPECT_THAT(object->head.children, ElementsAre(id_of('1'), id_of('2')));
    const auto names = parse_name_object(*object);
    ASSERT_TRUE(names.ok()) << names.error().message;
    EXPECT_EQ(names->at("b"), id_of('1'));
    EXPECT_FALSE(parse_name_object({{ObjectType::RecordDict, {}, 0, 0}, R"({"a":")" + id_of('1') + "\"}"}).ok());
    EXPECT_FALSE(parse_name_object({{ObjectType::RecordDict, {id_of('1')}, 0, 0}, "{}"}).ok());
    EXPECT_FALSE(parse_name_object({{ObjectType::RecordDict, {}, 0, 0}, "[]"}).ok());
    EXPECT_FALSE(parse_name_object({{ObjectType::RecordDict, {}, 0, 0}, "{"}).ok());
}

TEST(Objects, OrdersOfATree) {
    const ObjectTree tree{"m", {{"d", {{"a", {{"c", {}}}}, {"b", {{"c", {}}}}}}}};
    EXPECT_THAT(post_order(tree), ElementsAre("c", "a", "b", "d", "m"));
    EXPECT_THAT(pre_order(tree), ElementsAre("m", "d", "a", "c", "b"));
}

TEST(Objects, ATreeIsChecked) {
    const ObjectTree leaf{id_of('1'), {}};
    EXPECT_TRUE(check_tree({id_of('2'), {leaf, leaf}}).ok());
    EXPECT_FALSE(check_tree({"../../etc/passwd", {}}).ok());
    EXPECT_FALSE(check_tree({id_of('2'), {leaf, {id_of('3'), {{id_of('1'), {{id_of('4'), {}}}}}}}}).ok());
    ObjectTree deep = leaf;
    for (int i = 0; i < 7; ++i) deep = ObjectTree{id_of(static_cast<char>('2' + i)), {deep}};
    EXPECT_FALSE(check_tree(deep).ok());
}

class Store : public testing::Test {
protected:
    test::TemporaryFolder folder;
    ObjectStore store = ObjectStore::open(folder / "objects").value();
    std::string bytes = make_object(ObjectType::ArrayChunk, {}, std::string(100'000, 'x'));
    std::string id = sha256_hex(bytes);

    std::size_t files() const {
        return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(store.folder()), {}));
    }
};

TEST_F(Store, KeepsWhatIsWrittenInPieces) {
    auto writer = store.begin();
    ASSERT_TRUE(writer.ok());
    for (std::size_t at = 0; at < bytes.size(); at += 7) ASSERT_TRUE(writer->append(bytes.substr(at, 7)).ok());
    EXPECT_FALSE(store.has(id));
    ASSERT_TRUE(writer->commit(id).ok());
    EXPECT_TRUE(store.has(id));
    EXPECT_EQ(store.size_of(id).value(), bytes.size());
    EXPECT_EQ(store.load(id)->body, std::string(100'000, 'x'));
    EXPECT_TRUE(store.verify(id).value());
}

TEST_F(Store, RefusesAnotherHashAndLeavesNothing) {
    {
        auto writer = store.begin();
        ASSERT_TRUE(writer->append(bytes).ok());
        const auto done = writer->commit(id_of('0'));
        ASSERT_FALSE(done.ok());
        EXPECT_EQ(done.error().kind, ErrorKind::Reject);
    }
    EXPECT_EQ(files(), 0U);
}

TEST_F(Store, RefusesATruncatedObjectEvenUnderItsOwnHash) {
    const std::string cut = bytes.substr(0, 5000);
    auto writer = store.begin();
    ASSERT_TRUE(writer->append(cut).ok());
    EXPECT_FALSE(writer->commit(sha256_hex(cut)).ok());
}

TEST_F(Store, RefusesAHeadWithoutEnd) {
    auto writer = store.begin();
    Result<void> written;
    for (int i = 0; i < 20 && written.ok(); ++i) written = writer->append(std::string(100'000, 'a'));
    EXPECT_FALSE(written.ok());
}

TEST_F(Store, FindsWhatTheDiskDamaged) {
    ASSERT_TRUE(store.put(bytes).ok());
    {
        std::fstream file(store.path_of(id), std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(5000);
        file.put('y');
    }
    EXPECT_FALSE(store.load(id).ok());
    EXPECT_FALSE(store.verify(id).value());
    EXPECT_FALSE(store.has(id));
}

TEST_F(Store, ClearsAwayWhatAKilledWriterLeft) {
    std::ofstream(store.folder() / ".part-abc123") << "half";
    ASSERT_TRUE(store.put(bytes).ok());
    ASSERT_TRUE(ObjectStore::open(store.folder()).ok());
    EXPECT_EQ(files(), 1U);
    EXPECT_THAT(store.ids().value(), ElementsAre(id));
}

TEST_F(Store, KnowsTheTreeBelowAnObject) {
    ASSERT_TRUE(store.put(bytes).ok());
    const auto parent = store.put(make_object(ObjectType::Array, {id}, "{}"));
    ASSERT_TRUE(parent.ok());
    EXPECT_EQ(store.tree_of(*parent).value(), (ObjectTree{*parent, {{id, {}}}}));
    ASSERT_TRUE(store.remove(id).ok());
    EXPECT_FALSE(store.tree_of(*parent).ok());
}

TEST_F(Store, TakesNoNameThatIsNoId) {
    EXPECT_FALSE(store.has("../objects"));
    EXPECT_FALSE(store.remove("../objects").ok());
    EXPECT_FALSE(store.load("/etc/passwd").ok());
}

}  // namespace
}  // namespace cardionode::fed

#include "checkpoint/json.h"

#include <gtest/gtest.h>

#include <string>

#include "checkpoint/files.h"

namespace plumb {
namespace {

using test::expect_error;

TEST(Json, RefusesWhatIsNotJsonNamingTheByte) {
  expect_error([] { parse_json("{\"a\": tru}", "c.json"); }, ErrorKind::bad_file,
               {"c.json", "not valid JSON", "byte 10"});
  expect_error([] { parse_json("", "c.json"); }, ErrorKind::bad_file, {"c.json"});
  expect_error([] { parse_json("{} x", "c.json"); }, ErrorKind::bad_file, {"c.json"});
  expect_error([] { parse_json("{\"a\": \"\xff\"}", "c.json"); }, ErrorKind::bad_file, {"c.json"});
  expect_error([] { parse_json("{\"a\": NaN}", "c.json"); }, ErrorKind::bad_file, {"c.json"});
  expect_error([] { parse_json("{\"a\": 1e999}", "c.json"); }, ErrorKind::bad_file, {"range"});
}

TEST(Json, RefusesDeepNestingAndRepeatedKeys) {
  const std::string deep = std::string(100'000, '[');
  expect_error([&] { parse_json(deep, "c.json"); }, ErrorKind::bad_file, {"deeper than 64"});
  expect_error([&] { parse_json("{\"a\": {\"b\": 1, \"b\": 2}}", "c.json"); }, ErrorKind::bad_file,
               {"\"b\"", "twice"});
  EXPECT_EQ(parse_json("{\"a\": {\"b\": 1}, \"b\": {\"b\": 2}}", "c.json").size(), 2U);
}

TEST(Json, FieldsNameWhatIsWrong) {
  const Json json = parse_json(
      R"({"n": 7, "x": 1.5, "s": "text", "big": 18446744073709551615, "list": [1, "a"],
          "no": null})",
      "c.json");
  const Fields fields(json, "c.json");
  EXPECT_EQ(fields.integer("n", 1, 10), 7);
  EXPECT_EQ(fields.integer("no", 1, 10, 3), 3);
  EXPECT_EQ(fields.number("n", 0, 10), 7.0);
  expect_error([&] { (void)fields.integer("n", 1, 6); }, ErrorKind::bad_file,
               {"c.json", "\"n\"", "1 to 6", "is 7"});
  expect_error([&] { (void)fields.integer("x", 1, 6); }, ErrorKind::bad_file, {"\"x\"", "1.5"});
  expect_error([&] { (void)fields.integer("big", 0, INT64_MAX); }, ErrorKind::bad_file,
               {"\"big\"", "18446744073709551615"});
  expect_error([&] { (void)fields.integer("absent", 1, 6); }, ErrorKind::bad_file,
               {"\"absent\"", "missing"});
  expect_error([&] { (void)fields.integer("no", 1, 6); }, ErrorKind::bad_file,
               {"\"no\"", "missing"});
  expect_error([&] { (void)fields.text("n"); }, ErrorKind::bad_file, {"\"n\"", "a string"});
  expect_error([&] { (void)fields.flag("n", true); }, ErrorKind::bad_file,
               {"\"n\"", "true or false"});
  expect_error([&] { (void)fields.number("s", 0, 1); }, ErrorKind::bad_file, {"\"s\"", "\"text\""});
  expect_error([&] { (void)fields.integers("list", 0, 9); }, ErrorKind::bad_file, {"\"list\""});
  expect_error([&] { (void)fields.object("n"); }, ErrorKind::bad_file, {"\"n\"", "an object"});
  expect_error([] { Fields(Json::array(), "c.json"); }, ErrorKind::bad_file, {"a list of 0"});
}

TEST(Json, LongAndUnprintableValuesStayOnOneShortLine) {
  Json json;
  json["field"] = std::string(100'000, '\n');
  const Fields fields(json, "c.json");
  try {
    (void)fields.integer("field", 0, 1);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_LT(message.size(), 600U);
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace plumb

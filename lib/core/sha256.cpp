#include "core/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "plumb/error.h"
#include "plumb/hash.h"

namespace plumb {
namespace {

void check(int succeeded) {
  if (succeeded != 1) throw Error(ErrorKind::internal, "libcrypto does not offer SHA-256");
}

}  // namespace

struct Sha256::State {
  State() { check(context != nullptr ? EVP_DigestInit_ex(context, EVP_sha256(), nullptr) : 0); }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(const void* data, std::size_t size) {
  check(EVP_DigestUpdate(state_->context, data, size));
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  check(EVP_DigestFinal_ex(state_->context, digest.data(), &size));
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    text.push_back(digits[digest[i] >> 4]);
    text.push_back(digits[digest[i] & 15U]);
  }
  return text;
}

std::string sha256_hex(const void* data, std::size_t size) {
  Sha256 hash;
  hash.update(data, size);
  return hash.hex();
}

}  // namespace plumb

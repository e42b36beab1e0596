// Integer code as compilers make it, for whoever executes machine code: no library, no vectors, no floating point. run() is the first thing in the flat binary.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

static u8 bytes[8192];
static u32 words[2048];

static u32 crc32(u32 rounds) {
  u32 crc = ~0u;
  for (u32 round = 0; round < rounds; round++)
    for (u32 i = 0; i < 256; i++) {
      crc ^= bytes[i];
      for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0xedb88320u & -(crc & 1));
    }
  return crc;
}

#define ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
static const u32 K[64] = {
  0x428a2f98,0x71374491,0xb5c0fbcf,0xe9b5dba5,0x3956c25b,0x59f111f1,0x923f82a4,0xab1c5ed5,0xd807aa98,0x12835b01,0x243185be,0x550c7dc3,0x72be5d74,0x80deb1fe,0x9bdc06a7,0xc19bf174,
  0xe49b69c1,0xefbe4786,0x0fc19dc6,0x240ca1cc,0x2de92c6f,0x4a7484aa,0x5cb0a9dc,0x76f988da,0x983e5152,0xa831c66d,0xb00327c8,0xbf597fc7,0xc6e00bf3,0xd5a79147,0x06ca6351,0x14292967,
  0x27b70a85,0x2e1b2138,0x4d2c6dfc,0x53380d13,0x650a7354,0x766a0abb,0x81c2c92e,0x92722c85,0xa2bfe8a1,0xa81a664b,0xc24b8b70,0xc76c51a3,0xd192e819,0xd6990624,0xf40e3585,0x106aa070,
  0x19a4c116,0x1e376c08,0x2748774c,0x34b0bcb5,0x391c0cb3,0x4ed8aa4a,0x5b9cca4f,0x682e6ff3,0x748f82ee,0x78a5636f,0x84c87814,0x8cc70208,0x90befffa,0xa4506ceb,0xbef9a3f7,0xc67178f2};
static u32 sha256(u32 rounds) {
  u32 h[8] = {0x6a09e667,0xbb67ae85,0x3c6ef372,0xa54ff53a,0x510e527f,0x9b05688c,0x1f83d9ab,0x5be0cd19};
  for (u32 round = 0; round < rounds; round++) {
    u32 w[64];
    for (int i = 0; i < 16; i++) w[i] = words[i] + round;
    for (int i = 16; i < 64; i++) {
      u32 a = ROTATE(w[i - 15], 7) ^ ROTATE(w[i - 15], 18) ^ (w[i - 15] >> 3);
      u32 b = ROTATE(w[i - 2], 17) ^ ROTATE(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    u32 s[8];
    for (int i = 0; i < 8; i++) s[i] = h[i];
    for (int i = 0; i < 64; i++) {
      u32 e = s[4], a = s[0];
      u32 t1 = s[7] + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + K[i] + w[i];
      u32 t2 = (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
      for (int j = 7; j > 0; j--) s[j] = s[j - 1];
      s[4] += t1;
      s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
  }
  return h[0] ^ h[7];
}

__attribute__((noinline)) static u32 fibonacci(u32 n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
static u32 calls(u32 rounds) {
  u32 sum = 0;
  for (u32 round = 0; round < rounds; round++) sum += fibonacci(12 + (round & 1));
  return sum;
}

static u32 random64(u32 rounds) {
  u64 x = 88172645463325252ull, sum = 0;
  for (u32 i = 0; i < rounds * 64; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    sum += x * 0x2545f4914f6cdd1dull;
  }
  return (u32)(sum >> 32) ^ (u32)sum;
}

static u32 sort(u32 rounds) {
  u32 sum = 0;
  for (u32 round = 0; round < rounds; round++) {
    u32 x = 12345 + round;
    for (int i = 0; i < 128; i++) words[i] = (x = x * 1664525 + 1013904223) >> 8;
    for (int gap = 57; gap > 0; gap = gap == 1 ? 0 : gap * 10 / 23 + (gap < 4))
      for (int i = gap; i < 128; i++) {
        u32 value = words[i];
        int j = i;
        for (; j >= gap && words[j - gap] > value; j -= gap) words[j] = words[j - gap];
        words[j] = value;
      }
    sum += words[round & 127];
  }
  return sum;
}

// Lists and strings, as firmware walks them: the next entry's offset, a name of 16-bit characters to compare.
static u32 lists(u32 rounds) {
  u32 found = 0;
  for (int i = 0; i < 64; i++) {
    u8 *entry = bytes + i * 64;
    *(u32 *)entry = i == 63 ? 0 : (i + 1) * 64;
    for (int c = 0; c < 12; c++) ((unsigned short *)(entry + 8))[c] = 'A' + ((i >> (c >> 1)) & 1);
  }
  for (u32 round = 0; round < rounds; round++) {
    u8 *wanted = bytes + ((round * 7) & 63) * 64;
    u32 at = 0;
    do {
      u8 *entry = bytes + at;
      unsigned short *a = (unsigned short *)(entry + 8), *b = (unsigned short *)(wanted + 8);
      int left = 12;
      while (left && *a == *b) { a++; b++; left--; }
      if (!left) { found += at; break; }
      at = *(u32 *)entry;
    } while (at);
  }
  return found;
}

__attribute__((section(".text.run"))) u32 run(u32 kernel, u32 rounds) {
  for (u32 i = 0; i < sizeof bytes; i++) bytes[i] = i * 7 + (i >> 3);
  for (u32 i = 0; i < 2048; i++) words[i] = i * 2654435761u;
  switch (kernel) {
    case 0:
      return crc32(rounds);
    case 1:
      return sha256(rounds);
    case 2:
      return calls(rounds);
    case 3:
      return random64(rounds);
    case 4:
      return sort(rounds);
    default:
      return lists(rounds);
  }
}

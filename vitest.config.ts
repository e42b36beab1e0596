import { defineConfig } from 'vitest/config'

// Tests read the packages' sources; nothing has to be built first.
const conditions = ['@trapdoor/source']

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['{packages,plugins}/*/test/**/*.test.ts'],
          testTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: { name: 'story', include: ['test/story/**/*.test.ts'], testTimeout: 400_000 },
      },
      {
        extends: true,
        test: {
          name: 'judges',
          include: ['test/{conformance,emulators,guests,instructions}/**/*.test.ts'],
          testTimeout: 180_000,
        },
      },
      {
        extends: true,
        // In a suite of its own, `pnpm real-firmware`: firmware boots in QEMU on first use.
        test: {
          name: 'real-firmware',
          include: ['test/{capture,twins,traces}/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        extends: true,
        test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], testTimeout: 240_000 },
      },
    ],
  },
})

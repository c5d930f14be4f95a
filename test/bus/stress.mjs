// Programs in which several threads use one channel, from dist/. The main thread starts the others and prints one line of JSON.
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { Channel, Life } from '../../dist/bus/embedded/channel.js';

const SHAPE = { maxContext: 2000, vectors: 4 };
const ROUNDS = 20_000;

/** @type {Record<string, Record<string, (channel: Channel, extra: Int32Array) => unknown>>} */
const PROGRAMS = {
  // Two producers count up and ring; the engine sleeps whenever it can and notes the last value it found at a doorbell.
  doorbells: {
    main(channel, done) {
      const contexts = [0, 31, 1023, 1999];
      const late = { count: 0 };
      /** @type {Record<number, number>} */
      const heard = {};
      while (Atomics.load(done, 0) < 2 || channel.calledNow) {
        if (channel.called) {
          channel.take((context) => {
            heard[context] = Atomics.load(done, 16 + contexts.indexOf(context));
          });
        } else {
          const before = performance.now();
          channel.sleep(1000);
          // Nobody is ever silent for so long: a wake-up was lost.
          if (performance.now() - before > 900) late.count++;
        }
      }
      const rung = Object.fromEntries(contexts.map((context, i) => [context, Atomics.load(done, 16 + i)]));
      return { rung, heard, late: late.count };
    },
    first: (channel, done) => produce(channel, done, 0, [0, 31]),
    second: (channel, done) => produce(channel, done, 2, [1023, 1999]),
  },

  // One thread raises, one masks and unmasks. While it is masked the count must stand still.
  interrupts: {
    main(channel, shared) {
      let whileMasked = 0;
      for (let round = 0; round < ROUNDS || Atomics.load(shared, 1) < 5000; round++) {
        channel.interrupts.mask(3);
        const count = channel.interrupts.count(3);
        for (let i = 0; i < round % 50; i++) Atomics.load(shared, 0);
        if (channel.interrupts.count(3) !== count) whileMasked++;
        channel.interrupts.unmask(3);
        for (let i = 0; i < round % 30; i++) Atomics.load(shared, 0);
      }
      Atomics.store(shared, 0, 1);
      while (Atomics.load(shared, 2) === 0);
      const [, raised, , merged, lost] = shared;
      return { raised, merged, lost, whileMasked, delivered: channel.interrupts.count(3) };
    },
    raiser(channel, shared) {
      const word = channel.interrupts.word(3);
      // Deliveries made and owed: unmasking turns one into the other, so nobody else changes the sum.
      const owed = () => {
        const now = Atomics.load(channel.words, word);
        return { sum: (now >>> 2) + ((now >>> 1) & 1), pending: (now & 2) !== 0 };
      };
      for (let raised = 1; Atomics.load(shared, 0) === 0; raised++) {
        const before = owed();
        channel.interrupts.raise(3);
        const { sum } = owed();
        // A raise that finds the vector pending already may become one with the earlier one; no other may vanish.
        if (sum === before.sum) Atomics.add(shared, before.pending ? 3 : 4, 1);
        Atomics.store(shared, 1, raised);
      }
      channel.interrupts.unmask(3);
      Atomics.store(shared, 2, 1);
    },
  },

  // The engine raises once each round, after which the sleeper must wake without the help of its timeout.
  sleepers: {
    async main(channel, shared) {
      const { waitAsync } = /** @type {any} */ (Atomics);
      const word = channel.interrupts.word(1);
      let missed = 0;
      channel.interrupts.listen(1, 1);
      for (let round = 1; round <= 2000; round++) {
        Atomics.store(shared, 0, round);
        Atomics.notify(shared, 0);
        for (;;) {
          const seen = Atomics.load(channel.words, word);
          if (channel.interrupts.count(1) === round) break;
          const sleep = waitAsync(channel.words, word, seen, 2000);
          if ((sleep.async ? await sleep.value : sleep.value) === 'timed-out') missed++;
        }
      }
      Atomics.store(shared, 0, -1);
      Atomics.notify(shared, 0);
      return { missed };
    },
    raiser(channel, shared) {
      for (let round = 0; ; ) {
        Atomics.wait(shared, 0, round, 5000);
        round = Atomics.load(shared, 0);
        if (round < 0) return;
        for (let i = 0; i < round % 200; i++) Atomics.load(shared, 1);
        channel.interrupts.raise(1);
      }
    },
  },
};

/** Rings one context after the other; what the engine must find at its doorbell is stored before. */
function produce(
  /** @type {Channel} */ channel,
  /** @type {Int32Array} */ done,
  /** @type {number} */ slot,
  /** @type {number[]} */ contexts,
) {
  for (let round = 1; round <= ROUNDS; round++) {
    const which = round % 2;
    Atomics.store(done, 16 + slot + which, round);
    channel.ring(contexts[which], round);
    // Now and then so slow that the engine falls asleep.
    if (round % 64 === 0) Atomics.wait(done, 8, 0, 0.2);
  }
  Atomics.add(done, 0, 1);
  channel.ring(contexts[0], ROUNDS);
}

if (isMainThread) {
  const program = PROGRAMS[process.argv[2]];
  const channel = new Channel(SHAPE);
  channel.setLife(Life.RUNNING);
  channel.take(() => {});
  const shared = new Int32Array(new SharedArrayBuffer(4096));
  for (const role of Object.keys(program)) {
    if (role === 'main') continue;
    new Worker(new URL(import.meta.url), { workerData: { buffer: channel.buffer, shared, name: process.argv[2], role } });
  }
  console.log(JSON.stringify(await program.main(channel, shared)));
} else {
  const { buffer, shared, name, role } = workerData;
  PROGRAMS[name][role](new Channel(SHAPE, buffer), shared);
}

import { describe, expect, it } from 'vitest';
import { MessageFuzz } from './messages.js';

describe('the fuzzer of messages', () => {
  it('finds nothing in a served function', { timeout: 120_000 }, async () => {
    const { mutated, connections, replies } = await MessageFuzz.run({ messages: 20_000, seed: 20 });
    expect(mutated).toBe(20_000);
    expect(connections).toBeGreaterThan(5);
    expect(Object.keys(replies).length).toBeGreaterThan(25);
  });
});

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ThreadLog } from '../../src/serve/log.js';

describe('the log of a served function', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('counts what is too much in a second', () => {
    const lines: string[] = [];
    const log = new ThreadLog('s', 6, (line) => lines.push(line));
    for (let i = 0; i < 10; i++) log.line(`line ${i}`);
    expect(lines).toEqual(Array.from({ length: 6 }, (_, i) => `s: line ${i}`));
    vi.advanceTimersByTime(1000);
    log.line('line 10');
    expect(lines.slice(6)).toEqual(['s: 4 more lines were left out', 's: line 10']);
  });
});

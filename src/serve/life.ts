/** Life of the thread of a served function, in a word that the others see. It only goes up. */
export const Life = { STARTING: 0, RUNNING: 1, STOPPING: 2, GONE: 3 } as const;
export type Life = (typeof Life)[keyof typeof Life];

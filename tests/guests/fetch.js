// exports wasi:cli/run
import { getArguments } from 'wasi:cli/environment@0.2.10';

export const run = {
  async run() {
    try {
      const answer = await fetch(getArguments()[1]);
      console.log(`${answer.status} ${await answer.text()}`);
    } catch (e) {
      console.log(`failed: ${e}`);
      throw e;
    }
  },
};

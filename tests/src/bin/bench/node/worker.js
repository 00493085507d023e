// A worker of the Node stack: BullMQ. `node worker.js REDIS_URL MODEL_ADDRESS SLOTS`; says that it runs.
import { Worker } from 'bullmq';
import Redis from 'ioredis';

const [url, model, slots] = process.argv.slice(2);
const publisher = new Redis(url);

async function answer(job) {
  const say = (type, data) =>
    publisher.publish(job.data.channel, JSON.stringify({ type, job: job.id, data }));
  const response = await fetch(`http://${model}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'fake-1', stream: true, messages: [{ role: 'user', content: job.data.input }],
    }),
  });
  let text = '';
  let rest = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = lines.pop();
    let said = '';
    for (const line of lines) {
      if (!line.startsWith('data: ') || line === 'data: [DONE]') continue;
      said += JSON.parse(line.slice(6)).choices[0].delta.content ?? '';
    }
    text += said;
    if (said) await say('output_text.delta', { text: said });
  }
  await say('job.completed', {});
  return { text };
}

const connection = new Redis(url, { maxRetriesPerRequest: null });
const worker = new Worker('jobs', answer, { connection, concurrency: Number(slots) });
await worker.waitUntilReady();
console.log('127.0.0.1:0');

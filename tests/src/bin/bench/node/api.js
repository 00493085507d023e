// The ingress of the Node stack: Fastify in front of BullMQ. `node api.js REDIS_URL`; says where it listens.
//
// It keeps no log: events of a job wait in this process for the one reader that asks for them here. That is
// less than the product promises, and the fastest way to do it.
import Fastify from 'fastify';
import { Queue } from 'bullmq';
import Redis from 'ioredis';

const [url] = process.argv.slice(2);
const channel = `events:${process.pid}`;
const queue = new Queue('jobs', { connection: new Redis(url, { maxRetriesPerRequest: null }) });
const jobs = new Map();

const subscriber = new Redis(url);
subscriber.on('message', (_, message) => {
  const event = JSON.parse(message);
  const job = jobs.get(event.job);
  if (!job) return;
  const line = `data: ${message}\n\n`;
  const last = event.type === 'job.completed' || event.type === 'job.failed';
  if (job.reader) job.reader.write(line);
  else job.waiting.push(line);
  job.over ||= last;
  if (last && job.reader) end(event.job, job);
});
await subscriber.subscribe(channel);

function end(id, job) {
  job.reader.end();
  jobs.delete(id);
}

const app = Fastify();
app.post('/v1/jobs', async (request, reply) => {
  const id = crypto.randomUUID();
  jobs.set(id, { waiting: [], reader: null, over: false });
  await queue.add('chat', { input: request.body.input, channel }, {
    jobId: id, attempts: 3, removeOnComplete: { age: 3600, count: 1000 },
  });
  return reply.code(202).send({ id, status: 'queued' });
});
app.get('/v1/jobs/:id/events', (request, reply) => {
  const job = jobs.get(request.params.id);
  if (!job) return reply.code(404).send();
  reply.hijack();
  reply.raw.writeHead(200, { 'content-type': 'text/event-stream' });
  job.reader = reply.raw;
  for (const line of job.waiting.splice(0)) reply.raw.write(line);
  if (job.over) end(request.params.id, job);
});
const address = await app.listen({ host: '127.0.0.1', port: 0 });
console.log(address.replace('http://', ''));

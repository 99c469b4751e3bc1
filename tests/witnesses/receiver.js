// A merchant's server for callbacks in Node, written from the vendor's page (支付成功回调接口) without our code.
// It prints its port, receives callbacks as GET and POST, and responds with success or fail. It appends a line for each
// callback to the file WITNESS_LOG.
'use strict'
const crypto = require('crypto')
const fs = require('fs')
const http = require('http')

const { WITNESS_APPKEY: appkey, WITNESS_APPSECRET: appsecret, WITNESS_LOG: log } = process.env
const NAMES = ['order_id', 'out_order_id', 'price', 'realprice', 'type', 'paytime', 'extend']
const md5 = (text) => crypto.createHash('md5').update(text, 'utf8').digest('hex')

function verdict (form) {
  if (NAMES.some((name) => form.getAll(name).length !== 1)) return 'incomplete'
  if (form.has('appkey') && form.get('appkey') !== appkey) return 'another shop'
  const sign = md5(md5(appkey + NAMES.map((name) => form.get(name)).join('')) + appsecret)
  if (form.get('sign') !== sign) return 'forged'
  return Number(form.get('realprice')) < Number(form.get('price')) ? 'underpaid' : 'success'
}

const server = http.createServer((request, response) => {
  let body = ''
  request.setEncoding('utf8')
  request.on('data', (part) => { body += part })
  request.on('end', () => {
    const query = new URL(request.url, 'http://witness').searchParams
    const form = request.method === 'POST' ? new URLSearchParams(body) : query
    const entry = { method: request.method, verdict: verdict(form), has_appkey: form.has('appkey') }
    for (const name of NAMES) entry[name] = form.get(name)
    fs.appendFileSync(log, JSON.stringify(entry) + '\n')
    response.end(entry.verdict === 'success' ? 'success' : 'fail')
  })
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))

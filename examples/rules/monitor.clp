;;; A monitor of live tuples: alarms for what stays hot, and for who falls silent.
;;;
;;; In:  tuples ["reading", sensor, celsius] of the workspace `plant`.
;;; Out: tuples [hot, sensor, when], [calm, sensor, when] and [silent, sensor, when] in the
;;;      workspace `alarms`: one when a sensor has been too hot several times in a row, one when it
;;;      is not any more, one for each minute without a reading.

(defglobal
  ?*limit* = 80         ; degrees
  ?*times* = 3          ; readings above it in a row
  ?*silence* = 60000)   ; milliseconds

(deftemplate reading (slot sensor) (slot celsius (type NUMBER)))

(deftemplate state
  (slot sensor)
  (slot hot (default 0))      ; readings above the limit in a row
  (slot alarm (default off))
  (slot seen))                ; when it was heard of last

(defrule begin
  =>
  (subscribe plant "reading" :any :any))

(defrule a-new-sensor
  (declare (salience 10))
  (reading (sensor ?sensor))
  (not (state (sensor ?sensor)))
  =>
  (assert (state (sensor ?sensor) (seen (now))))
  (after ?*silence* check ?sensor))

(defrule above-the-limit
  ?reading <- (reading (sensor ?sensor) (celsius ?celsius))
  ?state <- (state (sensor ?sensor) (hot ?n))
  (test (> ?celsius ?*limit*))
  =>
  (retract ?reading)
  (modify ?state (hot (+ ?n 1)) (seen (now))))

(defrule within-the-limit
  ?reading <- (reading (sensor ?sensor) (celsius ?celsius))
  ?state <- (state (sensor ?sensor))
  (test (<= ?celsius ?*limit*))
  =>
  (retract ?reading)
  (modify ?state (hot 0) (seen (now))))

(defrule alarm
  ?state <- (state (sensor ?sensor) (hot ?n) (alarm off))
  (test (>= ?n ?*times*))
  =>
  (modify ?state (alarm on))
  (out alarms hot ?sensor (now)))

(defrule calm
  ?state <- (state (sensor ?sensor) (hot 0) (alarm on))
  =>
  (modify ?state (alarm off))
  (out alarms calm ?sensor (now)))

(defrule is-it-silent
  ?check <- (check ?sensor)
  (state (sensor ?sensor) (seen ?seen))
  =>
  (retract ?check)
  (if (>= (- (now) ?seen) ?*silence*) then (out alarms silent ?sensor (now)))
  (after ?*silence* check ?sensor))
